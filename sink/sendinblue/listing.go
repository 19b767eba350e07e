package sendinblue

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"segsync/sink"
)

// Export implements sink.Reader: one call for a list of any length.
func (c *Client) Export(ctx context.Context, list int64, attributes []string) (int64, error) {
	type filter struct {
		Action string `json:"actionForContacts"`
		List   int64  `json:"listId"`
	}
	if attributes == nil {
		attributes = []string{}
	}
	body, err := json.Marshal(struct {
		Filter       filter   `json:"customContactFilter"`
		Attributes   []string `json:"exportAttributes"`
		Mandatory    bool     `json:"exportMandatoryAttributes"` // EMAIL is one
		Subscription []string `json:"exportSubscriptionStatus"`
		Quiet        bool     `json:"disableNotification"` // else each export mails the account's owner
	}{filter{"allContacts", list}, attributes, true, []string{"email_marketing"}, true})
	if err != nil {
		return 0, err
	}
	var a struct {
		Process int64 `json:"processId"`
	}
	err = c.get(ctx, call{http.MethodPost, "/contacts/export", "/contacts/export", body, sink.ToAudit, 0}, &a)
	if err == nil && a.Process == 0 {
		err = errors.New("the answer to an export names no process")
	}
	return a.Process, err
}

// Bounds of reading an export: a million contacts with their attributes are some 200 MB.
const (
	exportMost    = 4 << 30
	exportTimeout = 15 * time.Minute
)

// Exported implements sink.Reader.
func (c *Client) Exported(ctx context.Context, file string, attributes []string, each func(*sink.Listed)) error {
	return c.file(ctx, "the file of an export", file, exportMost, exportTimeout, func(r io.Reader) error { return readListing(r, attributes, each) })
}

// readListing reads a CSV with a header line. Its separator is not documented, nor are the names of its columns beside
// the attributes': EMAIL is found in any case, and whatever tells that mails are not wanted.
func readListing(r io.Reader, attributes []string, each func(*sink.Listed)) error {
	buffered := bufio.NewReaderSize(r, 1<<16)
	lines := csv.NewReader(buffered)
	lines.Comma = separator(buffered)
	lines.FieldsPerRecord, lines.LazyQuotes, lines.ReuseRecord = -1, true, true
	header, err := lines.Read()
	if err != nil {
		return fmt.Errorf("it has no header: %w", err)
	}
	columns := make([]string, len(header))
	for i, name := range header {
		columns[i] = strings.ToUpper(strings.TrimSpace(strings.TrimPrefix(name, "\ufeff")))
	}
	email := slices.Index(columns, "EMAIL")
	if email < 0 {
		return errors.New("it has no column EMAIL")
	}
	l := sink.Listed{Attributes: make(map[string]string, len(columns))}
	for {
		cells, err := lines.Read()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case email >= len(cells):
			continue
		}
		clear(l.Attributes)
		l.Address, l.Blocked = strings.ToLower(strings.TrimSpace(cells[email])), false
		for i, cell := range cells {
			switch {
			case i >= len(columns) || i == email:
			case slices.Contains(attributes, columns[i]):
				l.Attributes[columns[i]] = cell
			case tellsBlocked(columns[i], cell):
				l.Blocked = true
			}
		}
		each(&l)
	}
}

// separator guesses the one of a header line.
func separator(r *bufio.Reader) rune {
	line, _ := r.Peek(4 << 10)
	line, _, _ = bytes.Cut(line, []byte{'\n'})
	best, most := ';', 0
	for _, c := range ";,\t" {
		if n := bytes.Count(line, []byte(string(c))); n > most {
			best, most = c, n
		}
	}
	return best
}

// tellsBlocked says whether a cell tells that its contact is blocked or unsubscribed.
func tellsBlocked(column, cell string) bool {
	cell = strings.ToLower(strings.TrimSpace(cell))
	switch {
	case strings.Contains(column, "BLACKLIST"), strings.Contains(column, "BLOCKLIST"), column == "UNSUBSCRIBED":
		return cell == "true" || cell == "yes" || cell == "1"
	case strings.Contains(strings.ReplaceAll(column, " ", "_"), "EMAIL_MARKETING"), strings.Contains(column, "SUBSCRIPTION"):
		return strings.HasPrefix(cell, "unsub") || strings.HasPrefix(cell, "black") || strings.HasPrefix(cell, "block") || cell == "no" || cell == "false" || cell == "0"
	}
	return false
}

// pageMost is how many contacts a page of a list holds.
const pageMost = 1000

// Members implements sink.Reader. The pages are read from the last to the first: whoever leaves meanwhile moves others to
// where they are seen once more, not to where they are missed. (An older contact that enters does that.)
func (c *Client) Members(ctx context.Context, list int64, attributes []string, each func(*sink.Listed)) error {
	first, count, err := c.page(ctx, list, 1, 0)
	if err == nil && count < len(first) {
		err = errors.New("a page of the list does not tell how many contacts it holds")
	}
	for offset := (count - 1) / pageMost * pageMost; err == nil && count > 0 && offset >= 0; offset -= pageMost {
		var all []member
		if all, _, err = c.page(ctx, list, pageMost, offset); err != nil {
			break
		}
		for _, m := range all {
			l := sink.Listed{Address: strings.ToLower(m.Email), Blocked: m.Blocked || slices.Contains(m.Unsubscribed, list), Attributes: make(map[string]string, len(attributes))}
			for _, name := range attributes {
				if name != ExtID { // it is told elsewhere, and how is not known
					l.Attributes[name] = text(m.Attributes[name]) // one that is not told is not set
				}
			}
			each(&l)
		}
	}
	return err
}

// member of a list, as a page tells of it.
type member struct {
	Email        string         `json:"email"`
	Blocked      bool           `json:"emailBlacklisted"`
	Unsubscribed []int64        `json:"listUnsubscribed"`
	Attributes   map[string]any `json:"attributes"`
}

// page reads a page of a list, and how many contacts the list holds.
func (c *Client) page(ctx context.Context, list int64, limit, offset int) ([]member, int, error) {
	var p struct {
		Contacts []member `json:"contacts"`
		Count    int      `json:"count"`
	}
	path := fmt.Sprintf("/contacts?listIds=%d&limit=%d&offset=%d&sort=asc", list, limit, offset)
	err := c.get(ctx, call{http.MethodGet, path, "/contacts", nil, sink.ToAudit, 0}, &p)
	return p.Contacts, p.Count, err
}

// text is a value of a JSON answer as an export tells of it.
func text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return fmt.Sprint(v)
}

// Carries implements sink.Reader. Numbers of telephones come back without their sign, dates in several forms. Several
// values at once, whose form in an export is not known, count as carried.
func (c *Client) Carries(sent sink.Attribute, told string) bool {
	told = strings.TrimSpace(told)
	var want any
	if json.Unmarshal(sent.Value, &want) != nil {
		return true
	}
	switch want := want.(type) {
	case nil:
		return told == ""
	case string:
		return carriesText(strings.TrimSpace(want), told)
	case bool:
		switch strings.ToLower(told) {
		case "true", "yes", "1":
			return want
		}
		return !want
	case float64:
		got, err := strconv.ParseFloat(told, 64)
		return err == nil && got == want
	}
	return true
}

// lineBreaks makes all line breaks the same: not every file keeps them apart.
var lineBreaks = strings.NewReplacer("\r\n", "\n", "\r", "\n")

func carriesText(want, told string) bool {
	want, told = lineBreaks.Replace(want), lineBreaks.Replace(told)
	if want == told || strings.TrimPrefix(want, "+") == strings.TrimPrefix(told, "+") {
		return true
	}
	day, err := time.Parse(time.DateOnly, want)
	if err != nil {
		return false
	}
	for _, form := range []string{"02-01-2006", "02/01/2006", time.RFC3339, time.DateTime} {
		if got, err := time.Parse(form, told); err == nil && got.Format(time.DateOnly) == day.Format(time.DateOnly) {
			return true
		}
	}
	return false
}

// plainURL is the address in what may be a link of HTML.
func plainURL(s string) string {
	if _, rest, ok := strings.Cut(s, `href="`); ok {
		s, _, _ = strings.Cut(rest, `"`)
	}
	return s
}

// Lookup implements sink.Reader.
func (c *Client) Lookup(ctx context.Context, address string) (blocked bool, lists []int64, err error) {
	cl := look(address)
	cl.purpose = sink.ToAudit
	if err := c.await(ctx, cl); err != nil {
		return false, nil, err
	}
	seen, o := c.look(ctx, cl)
	if o.Verdict != sink.Applied {
		return false, nil, &sink.OutcomeError{Outcome: o}
	}
	return seen.blocked, seen.lists, nil
}
