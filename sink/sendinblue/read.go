package sendinblue

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"segsync/sink"
)

// await takes a reading call from the budget: where that is not the scarce one, it waits for it.
func (c *Client) await(ctx context.Context, cl call) error {
	b := &c.limiter.contacts
	if cl.scarce() {
		b = &c.limiter.other
	}
	reserve := func() (bool, time.Time) { return c.limiter.reserve(b, 1) }
	if cl.purpose == sink.ToAsk {
		reserve = func() (bool, time.Time) { return c.limiter.ask(b) }
	}
	for {
		ok, again := reserve()
		if ok {
			return nil
		}
		if cl.scarce() {
			return fmt.Errorf("%w until %s", sink.ErrNoRoom, again.UTC().Format(time.RFC3339))
		}
		select {
		case <-time.After(again.Sub(c.o.Now())):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// get makes a reading call, waiting for the budget, and decodes its answer.
func (c *Client) get(ctx context.Context, cl call, into any) error {
	if err := c.await(ctx, cl); err != nil {
		return err
	}
	a, err := c.do(ctx, cl)
	if err != nil {
		return errorf(unanswered(err), "%s %s", cl.method, cl.endpoint)
	}
	o, ok := status(a.status, parseOK(a), waitOf(a.header))
	switch {
	case !ok && a.status == http.StatusNotFound:
		o.Verdict, o.Absent = sink.Halt, true
		o.Mend = mend(o)
	case !ok && a.status >= 400 && a.status < 500:
		o.Verdict = sink.Reject
	}
	if o.Verdict != sink.Applied {
		return errorf(o, "%s %s", cl.method, cl.endpoint)
	}
	if err := json.Unmarshal(a.body, into); err != nil {
		return errorf(sink.Outcome{Code: "bad_answer", Message: "the answer is not as described"}, "%s %s", cl.method, cl.endpoint)
	}
	return nil
}

type process struct {
	ID     int64  `json:"id"`
	Name   string `json:"name"`
	Status string `json:"status"`
	Export string `json:"export_url"`
	Info   struct {
		Import map[string]any `json:"import"`
	} `json:"info"`
}

// sink reads a process. Statuses are an open set: what is not known to be an end is under way.
func (p process) sink() sink.Process {
	s := sink.Process{ID: p.ID, Export: strings.Contains(strings.ToUpper(p.Name), "EXPORT")}
	switch p.Status {
	case "completed":
		s.Done, s.File = true, plainURL(p.Export)
		for reason, v := range p.Info.Import {
			if u, ok := v.(string); ok && u != "" {
				s.Reports = append(s.Reports, sink.Report{Reason: reason, Address: u})
			}
		}
	case "failed", "cancelled":
		s.Done, s.Failed = true, true
	}
	return s
}

// processesMost is how many processes one look lists.
const processesMost = 50

// Processes implements sink.Reader: the newest 50, of any kind.
func (c *Client) Processes(ctx context.Context) ([]sink.Process, error) {
	var page struct {
		Processes []process `json:"processes"`
	}
	cl := call{http.MethodGet, "/processes?limit=" + strconv.Itoa(processesMost) + "&sort=desc", "/processes", nil, sink.ToLook, 0}
	if err := c.get(ctx, cl, &page); err != nil {
		return nil, err
	}
	all := make([]sink.Process, len(page.Processes))
	for i, p := range page.Processes {
		all[i] = p.sink()
	}
	return all, nil
}

// Process implements sink.Reader. One that the API does not know any more counts as failed: what it did is unknown.
func (c *Client) Process(ctx context.Context, id int64) (sink.Process, error) {
	var p process
	err := c.get(ctx, call{http.MethodGet, "/processes/" + strconv.FormatInt(id, 10), "/processes/{id}", nil, sink.ToLook, 0}, &p)
	var outcome *sink.OutcomeError
	if errors.As(err, &outcome) && (outcome.Outcome.Absent || outcome.Outcome.Code == "invalid_parameter") {
		return sink.Process{ID: id, Done: true, Failed: true}, nil
	}
	return p.sink(), err
}

const (
	reportMost    = 64 << 20
	reportTimeout = time.Minute
)

// Report implements sink.Reader. A number that somebody else has is refused alone.
func (c *Client) Report(ctx context.Context, r sink.Report) ([]string, sink.Outcome, error) {
	var found []string
	means := sink.Outcome{Verdict: sink.Reject, Code: r.Reason, Message: "the import's report names the contact", Attribute: refusedBy[r.Reason]}
	err := c.file(ctx, "the report of an import", r.Address, reportMost, reportTimeout, func(r io.Reader) (err error) {
		found, err = addresses(r)
		return err
	})
	return found, means, err
}

// refusedBy are the reports about an attribute that somebody else's contact has.
var refusedBy = map[string]string{
	"duplicate_phone_id": "SMS", "duplicate_whatsapp_id": "WHATSAPP", "duplicate_landline_number_id": "LANDLINE_NUMBER", "duplicate_ext_id": ExtID,
}

// file reads what the API has named the address of. That comes from the API, so it gets no key, must be https at a host
// of the API's own or a configured one, and is read to a bound.
func (c *Client) file(ctx context.Context, what, address string, most int64, timeout time.Duration, read func(io.Reader) error) error {
	u, err := url.Parse(address)
	if err != nil || !c.mayRead(u) {
		return errors.New(what + " is not at an https address of the API's own hosts: name its host in the connection's report_hosts, if it is right")
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return errors.New("the address of " + what + " is malformed")
	}
	resp, err := c.reports.Do(req)
	if err != nil {
		return errors.New(what + " cannot be fetched")
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s was answered with status %d", what, resp.StatusCode)
	}
	limited := &io.LimitedReader{R: resp.Body, N: most}
	if err := read(limited); err != nil {
		return fmt.Errorf("%s cannot be read: %w", what, err)
	}
	if limited.N <= 0 {
		return errors.New(what + " is too long")
	}
	return nil
}

// ownDomains are the API's.
var ownDomains = []string{"brevo.com", "sendinblue.com"}

// mayRead says whether a report may be read at an address that the API has named.
func (c *Client) mayRead(u *url.URL) bool {
	base, err := url.Parse(c.o.BaseURL)
	if err != nil || u.User != nil {
		return false
	}
	host := strings.ToLower(u.Hostname())
	if Loopback(base.Hostname()) {
		return Loopback(host) // a stand-in
	}
	own := slices.ContainsFunc(ownDomains, func(d string) bool { return host == d || strings.HasSuffix(host, "."+d) })
	return u.Scheme == "https" && (own || host == strings.ToLower(base.Hostname()) || slices.Contains(c.o.Hosts, host))
}

// local says whether an address is of this machine or its network.
func local(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return Loopback(u.Hostname()) || ip != nil && !public(ip)
}

func public(ip net.IP) bool {
	return ip.IsGlobalUnicast() && !ip.IsPrivate() && !ip.IsLoopback() && !ip.IsLinkLocalUnicast()
}

// dialPublic dials what a name stands for, if that is no address of this machine or its network.
func dialPublic(ctx context.Context, dial func(context.Context, string, string) (net.Conn, error), network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	ips, err := net.DefaultResolver.LookupIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	for _, ip := range ips {
		if public(ip) {
			return dial(ctx, network, net.JoinHostPort(ip.String(), port))
		}
	}
	return nil, errors.New("the report of an import is at an address of this network")
}

// addresses finds them in a CSV whose columns are not documented: every cell that looks like one.
func addresses(r io.Reader) ([]string, error) {
	var all []string
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		for _, cell := range strings.FieldsFunc(lines.Text(), func(c rune) bool { return c == ';' || c == ',' || c == '\t' }) {
			if cell = strings.ToLower(strings.Trim(strings.TrimSpace(cell), `"'`)); strings.Contains(cell, "@") {
				all = append(all, cell)
			}
		}
	}
	return all, lines.Err()
}

// Loopback says whether a host is this machine itself.
func Loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// List implements sink.Reader.
func (c *Client) List(ctx context.Context, id int64) (sink.ListInfo, error) {
	var l struct {
		ID      int64  `json:"id"`
		Name    string `json:"name"`
		Unique  int64  `json:"uniqueSubscribers"` // totalSubscribers is 0 in some answers
		Blocked int64  `json:"totalBlacklisted"`
		Dynamic bool   `json:"dynamicList"`
	}
	err := c.get(ctx, call{http.MethodGet, listPath(id), "/contacts/lists/{id}", nil, sink.ToAsk, 0}, &l)
	var o *sink.OutcomeError
	if errors.As(err, &o) && o.Outcome.Absent {
		gone := listGone(id)
		gone.Absent = true
		err = errorf(gone, "list %d", id)
	}
	return sink.ListInfo{ID: l.ID, Name: printable(l.Name, 100), Contacts: l.Unique + l.Blocked, Dynamic: l.Dynamic}, err
}

// listsMost is how many lists a page holds.
const listsMost = 50

// Lists are all of the account: a call for every 50. Their names are as the account has them.
func (c *Client) Lists(ctx context.Context) (all []sink.ListInfo, err error) {
	seen := map[int64]bool{}
	for offset := 0; ; offset += listsMost {
		var page struct {
			Count int `json:"count"`
			Lists []struct {
				ID      int64  `json:"id"`
				Name    string `json:"name"`
				Folder  int64  `json:"folderId"`
				Unique  int64  `json:"uniqueSubscribers"`
				Blocked int64  `json:"totalBlacklisted"`
			} `json:"lists"`
		}
		path := fmt.Sprintf("/contacts/lists?limit=%d&offset=%d&sort=asc", listsMost, offset) // oldest first: one that is made meanwhile moves none
		if err := c.get(ctx, call{http.MethodGet, path, "/contacts/lists", nil, sink.ToAsk, 0}, &page); err != nil {
			return nil, err
		}
		for _, l := range page.Lists {
			if !seen[l.ID] {
				seen[l.ID] = true
				all = append(all, sink.ListInfo{ID: l.ID, Name: l.Name, Folder: l.Folder, Contacts: l.Unique + l.Blocked})
			}
		}
		if len(page.Lists) == 0 || offset+len(page.Lists) >= page.Count {
			return all, nil
		}
	}
}

// CreateList makes a list in a folder, and tells its number.
func (c *Client) CreateList(ctx context.Context, name string, folder int64) (int64, error) {
	var made struct {
		ID int64 `json:"id"`
	}
	body, _ := json.Marshal(map[string]any{"name": name, "folderId": folder})
	err := c.get(ctx, call{http.MethodPost, "/contacts/lists", "/contacts/lists", body, sink.ToAsk, 0}, &made)
	return made.ID, err
}

// option is one of a category attribute's.
type option struct {
	Value json.RawMessage `json:"value"`
	Text  string          `json:"valueStr"` // holds the value that is no number; Value is 0 then
	Label string          `json:"label"`
}

// Attributes implements sink.Reader, with EXT_ID among them, which the account does not list. A value of a category may be
// named by its number, its text or its label.
func (c *Client) Attributes(ctx context.Context) (map[string]sink.AttributeInfo, error) {
	var a struct {
		Attributes []struct {
			Name, Category, Type string
			Enumeration          []option `json:"enumeration"`
			Choices              []string `json:"multiCategoryOptions"`
		} `json:"attributes"`
	}
	if err := c.get(ctx, call{http.MethodGet, "/contacts/attributes", "/contacts/attributes", nil, sink.ToAsk, 0}, &a); err != nil {
		return nil, err
	}
	all := map[string]sink.AttributeInfo{ExtID: {Type: sink.Text}}
	for _, at := range a.Attributes {
		info := sink.AttributeInfo{Type: sink.AttributeType(at.Type), Options: at.Choices}
		switch at.Category {
		case "calculated", "global", "transactional", "category":
			info.Type = sink.AttributeType(at.Category)
		}
		if info.Type == "" {
			info.Type = sink.Text
		}
		for _, o := range at.Enumeration {
			value := o.Text
			if value == "" {
				value = strings.Trim(string(o.Value), `"`)
			}
			info.Options = append(info.Options, value, o.Label)
		}
		slices.Sort(info.Options)
		info.Options = slices.Compact(info.Options)
		all[strings.ToUpper(at.Name)] = info
	}
	return all, nil
}

// CreateAttribute makes a normal attribute of the account.
func (c *Client) CreateAttribute(ctx context.Context, name string, t sink.AttributeType) error {
	var none struct{}
	body, _ := json.Marshal(map[string]string{"type": string(t)})
	err := c.get(ctx, call{http.MethodPost, "/contacts/attributes/normal/" + url.PathEscape(name), "/contacts/attributes", body, sink.ToAsk, 0}, &none)
	var o *sink.OutcomeError
	if errors.As(err, &o) && o.Outcome.Code == "bad_answer" {
		return nil // 201 without a body
	}
	return err
}
