package sendinblue

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"segsync/sink"
)

const (
	batchMost = 150 // addresses in an add or remove call
	// importMost is the bytes of an import's rows: bodies of 10 MB are refused, 8 MB are advised.
	importMost = 8_000_000 - importHead
	importHead = 16_000 // the rest of the body, the header line among it
)

// ExtID is the attribute name that sets a contact's external id.
const ExtID = "EXT_ID"

// unique attributes: no two contacts of an account may have the same value.
var unique = []string{"SMS", "WHATSAPP", "LANDLINE_NUMBER", ExtID}

// call is an HTTP request to be made.
type call struct {
	method, path string
	endpoint     string // the path without identifiers, for metrics
	body         []byte
	purpose      sink.Purpose
	kind         sink.Kind // of a write
}

// scarce says whether a call takes from the budget of everything that is not below /contacts.
func (c *call) scarce() bool { return !strings.HasPrefix(c.path, "/contacts") }

// build turns a request into its call. It is pure.
func build(r *sink.Request) call {
	switch r.Kind {
	case sink.Upsert:
		return call{http.MethodPost, "/contacts", "/contacts", upsertBody(r), sink.ToSend, 0}
	case sink.Update:
		return update(r)
	case sink.Add:
		return call{http.MethodPost, listPath(r.Lists[0]) + "/contacts/add", "/contacts/lists/{id}/contacts/add", emails(r), sink.ToSend, 0}
	case sink.Remove:
		return call{http.MethodPost, listPath(r.Unlink[0]) + "/contacts/remove", "/contacts/lists/{id}/contacts/remove", emails(r), sink.ToSend, 0}
	case sink.Import:
		return call{http.MethodPost, "/contacts/import", "/contacts/import", importBody(r), sink.ToSend, 0}
	case sink.Delete:
		return call{http.MethodDelete, contactPath(r.Contacts[0].Address), "/contacts/{id}", nil, sink.ToSend, 0}
	case sink.Look: // nothing is written
	}
	panic("a request of no kind, or one that writes nothing")
}

// Describe is the call that a request makes, to be shown; nothing is sent.
func Describe(r *sink.Request) (method, path string, body []byte) {
	c := build(r)
	return c.method, c.path, c.body
}

func update(r *sink.Request) call {
	return call{http.MethodPut, contactPath(r.Contacts[0].Address), "/contacts/{id}", updateBody(r), sink.ToSend, 0}
}

func look(address string) call {
	return call{http.MethodGet, contactPath(address), "/contacts/{id}", nil, sink.ToLook, 0}
}

func listPath(id int64) string { return "/contacts/lists/" + strconv.FormatInt(id, 10) }

func contactPath(address string) string {
	return "/contacts/" + url.QueryEscape(address) + "?identifierType=email_id"
}

// object writes a JSON object field by field.
type object struct{ b []byte }

func (o *object) raw(name string, v []byte) {
	if len(o.b) == 0 {
		o.b = append(o.b, '{')
	} else {
		o.b = append(o.b, ',')
	}
	o.b = append(strconv.AppendQuote(o.b, name), ':')
	o.b = append(o.b, v...)
}

func (o *object) lists(name string, lists []int64) {
	if len(lists) > 0 {
		b, _ := json.Marshal(lists)
		o.raw(name, b)
	}
}

func (o *object) end() []byte {
	if len(o.b) == 0 {
		return []byte("{}")
	}
	return append(o.b, '}')
}

// attributes writes those of a contact; the external id is a field of its own.
func (o *object) attributes(c *sink.Contact) {
	var inner object
	for _, a := range c.Attributes {
		if a.Name == ExtID {
			o.raw("ext_id", a.Value)
			continue
		}
		inner.raw(a.Name, a.Value)
	}
	if len(inner.b) > 0 {
		o.raw("attributes", inner.end())
	}
}

func quote(s string) []byte { b, _ := json.Marshal(s); return b }

func upsertBody(r *sink.Request) []byte {
	var o object
	o.raw("email", quote(r.Contacts[0].Address))
	o.attributes(&r.Contacts[0])
	o.lists("listIds", r.Lists)
	o.raw("updateEnabled", []byte("true"))
	return o.end()
}

func updateBody(r *sink.Request) []byte {
	var o object
	o.attributes(&r.Contacts[0])
	o.lists("listIds", r.Lists)
	o.lists("unlinkListIds", r.Unlink)
	return o.end()
}

func emails(r *sink.Request) []byte {
	all := make([]string, len(r.Contacts))
	for i := range r.Contacts {
		all[i] = r.Contacts[i].Address
	}
	b, _ := json.Marshal(map[string][]string{"emails": all})
	return b
}

// The forms of an import's rows.
const (
	formCSV  = "csv"
	formJSON = "json"
)

// row says how an import carries a contact. CSV is what production uses, and carries booleans (jsonBody was seen to
// ignore false); values that its undocumented quoting might spoil go as JSON; lists of values, and values that empty
// beside others that are to be left alone, go by single calls. In an erasing import every empty cell empties, so its
// rows must all set the same attributes.
func row(c *sink.Contact) (group string, size int, erase, ok bool) {
	csv := csvSafe(c.Address)
	falses, ext := false, false
	size = len(c.Address) + 4
	for _, a := range c.Attributes {
		size += len(a.Value) + 1
		erase = erase || a.Empties()
		ext = ext || a.Name == ExtID
		switch {
		case len(a.Value) == 0 || a.Value[0] == '[':
			return "", 0, false, false
		case string(a.Value) == "false":
			falses = true
		case a.Value[0] == '"':
			csv = csv && csvSafe(string(a.Value[1:len(a.Value)-1]))
		}
	}
	switch {
	case csv && erase:
		return formCSV + ":" + names(c), size, true, true
	case csv:
		return formCSV, size, false, true
	case erase || falses || ext:
		return "", 0, false, false
	}
	for _, a := range c.Attributes {
		size += len(a.Name) + 4
	}
	return formJSON, size + 32, false, true
}

func names(c *sink.Contact) string {
	var b strings.Builder
	for _, a := range c.Attributes {
		b.WriteString(a.Name)
		b.WriteByte(',')
	}
	return b.String()
}

// csvSafe says whether a text needs no quoting in CSV and no escaping in JSON, and keeps its spaces.
func csvSafe(s string) bool {
	if s != strings.TrimSpace(s) {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == ';' || c == '"' || c == '\\' || c == '\'' {
			return false
		}
	}
	return true
}

func importBody(r *sink.Request) []byte {
	var o object
	if form, _, _, _ := row(&r.Contacts[0]); strings.HasPrefix(form, formCSV) {
		o.raw("fileBody", csvBody(r.Contacts))
	} else {
		o.raw("jsonBody", jsonBody(r.Contacts))
	}
	o.lists("listIds", r.Lists)
	o.raw("updateExistingContacts", []byte("true"))
	if r.Erase {
		o.raw("emptyContactsAttributes", []byte("true"))
	}
	o.raw("disableNotification", []byte("true")) // else each import mails the account's owner
	return o.end()
}

// csvBody is a JSON string: lines of cells parted by ";", EMAIL first.
func csvBody(contacts []sink.Contact) []byte {
	var columns []string
	for i := range contacts {
		for _, a := range contacts[i].Attributes {
			if at, have := slices.BinarySearch(columns, a.Name); !have {
				columns = slices.Insert(columns, at, a.Name)
			}
		}
	}
	b := append(make([]byte, 0, 128*len(contacts)), `"EMAIL`...)
	for _, c := range columns {
		b = append(append(b, ';'), c...)
	}
	for i := range contacts {
		b = append(append(b, `\n`...), contacts[i].Address...)
		attributes := contacts[i].Attributes
		for _, c := range columns {
			b = append(b, ';')
			if len(attributes) > 0 && attributes[0].Name == c {
				b = appendCell(b, attributes[0].Value)
				attributes = attributes[1:]
			}
		}
	}
	return append(b, '"')
}

func appendCell(b, v []byte) []byte {
	switch {
	case string(v) == "true":
		return append(b, "Yes"...)
	case string(v) == "false":
		return append(b, "No"...)
	case v[0] == '"':
		return append(b, v[1:len(v)-1]...)
	}
	return append(b, v...)
}

func jsonBody(contacts []sink.Contact) []byte {
	b := []byte{'['}
	for i := range contacts {
		if i > 0 {
			b = append(b, ',')
		}
		var o object
		o.raw("email", quote(contacts[i].Address))
		o.attributes(&contacts[i])
		b = append(b, o.end()...)
	}
	return append(b, ']')
}
