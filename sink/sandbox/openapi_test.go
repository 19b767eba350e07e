package sandbox_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"segsync/sink"
	"segsync/sink/sandbox"
	"segsync/sink/sendinblue"
)

// deviations are the ways in which the sandbox, or segsync, is knowingly not as the description says, each with the
// fact behind it. A deviation that does not occur is an error: the list must stay true.
var deviations = []struct{ part, endpoint, contains, fact string }{
	{"answer", "any", "status is not supported", "401, 402, 413 and 429 are answered, and not described"},
	{"answer", "GET /contacts/attributes", "multiple-choice", "multiple-choice is a type of attribute, newer than the description"},
}

// description is Brevo's own, found through SENDINBLUE_OPENAPI.
func description(t *testing.T) *openapi3.T {
	t.Helper()
	file := os.Getenv("SENDINBLUE_OPENAPI")
	if file == "" {
		t.Skip("SENDINBLUE_OPENAPI does not name the API's description")
	}
	doc, err := openapi3.NewLoader().LoadFromFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(context.Background(), openapi3.DisableExamplesValidation()); err != nil {
		t.Fatal(err)
	}
	doc.Servers = openapi3.Servers{{URL: "/v3"}}
	return doc
}

// judge holds each call and its answer against the description.
type judge struct {
	t      *testing.T
	doc    *openapi3.T
	mu     sync.Mutex
	seen   map[string]int // endpoint to calls
	strays []string
	used   map[int]bool
}

func (j *judge) observe(r *http.Request, body []byte, status int, header http.Header, answer []byte) {
	router, err := gorillamux.NewRouter(j.doc)
	if err != nil {
		j.t.Error(err)
		return
	}
	req := r.Clone(context.Background())
	req.Body = io.NopCloser(bytes.NewReader(body))
	req.URL = &url.URL{Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
	route, params, err := router.FindRoute(req)
	if err != nil {
		j.t.Errorf("%s %s is not described: %v", r.Method, r.URL.Path, err)
		return
	}
	name := r.Method + " " + route.Path
	in := &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route, Options: &openapi3filter.Options{
		AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true, MultiError: true,
	}}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.seen[name]++
	j.blame("request", name, openapi3filter.ValidateRequest(context.Background(), in))
	j.blame("answer", name, openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: status, Header: header, Body: io.NopCloser(bytes.NewReader(answer)), Options: in.Options,
	}))
}

func (j *judge) blame(part, name string, err error) {
	if err == nil {
		return
	}
	var many openapi3.MultiError
	if !errors.As(err, &many) {
		many = openapi3.MultiError{err}
	}
	for _, e := range many {
		text := e.Error()
		i := slices.IndexFunc(deviations, func(d struct{ part, endpoint, contains, fact string }) bool {
			return d.part == part && (d.endpoint == "any" || d.endpoint == name) && strings.Contains(text, d.contains)
		})
		if i >= 0 {
			j.used[i] = true
			continue
		}
		j.strays = append(j.strays, part+" of "+name+": "+strings.SplitN(text, "\n", 2)[0])
	}
}

// TestOpenAPI makes every call that segsync makes, and provokes the answers that it must understand.
func TestOpenAPI(t *testing.T) {
	j := &judge{t: t, doc: description(t), seen: map[string]int{}, used: map[int]bool{}}
	s := sandbox.New(sandbox.Options{Key: "k", Lists: []int64{42, 43}, ImportTime: 10 * time.Millisecond, Observe: j.observe})
	server := httptest.NewServer(s)
	defer server.Close()
	s.SetBaseURL(server.URL)
	c := sendinblue.New(sendinblue.Options{
		BaseURL: server.URL + "/v3", Key: func() string { return "k" }, Rate: sendinblue.Rate{ContactsPerSecond: 1000, ContactsPerHour: 100_000, OtherPerHour: 1000, Share: 1},
	})
	defer c.Close()
	ctx := t.Context()
	send := func(r *sink.Request) sink.Outcome {
		c.Reserve(r.Calls())
		return c.Send(ctx, r).Of(0)
	}
	contact := func(address string, pairs ...string) sink.Contact {
		out := sink.Contact{Address: address}
		for i := 0; i < len(pairs); i += 2 {
			out.Attributes = append(out.Attributes, sink.Attribute{Name: pairs[i], Value: []byte(pairs[i+1])})
		}
		return out
	}
	ann := contact("ann+x@example.com", "EXT_ID", `"7"`, "FIRSTNAME", `"Ann"`, "LTV", "12.5", "NEWSLETTER", "false", "SMS", `"+33639980001"`, "TAGS", `["a"]`)
	bob := contact("bob@example.com", "FIRSTNAME", `"Bob; the \"B\""`)
	for _, step := range []struct {
		name string
		r    *sink.Request
		want sink.Verdict
	}{
		{"created", &sink.Request{Kind: sink.Upsert, Lists: []int64{42}, Contacts: []sink.Contact{ann}}, sink.Applied},
		{"updated", &sink.Request{Kind: sink.Upsert, Lists: []int64{42}, Contacts: []sink.Contact{ann}}, sink.Applied},
		{"somebody else's number", &sink.Request{Kind: sink.Upsert, Lists: []int64{42}, Contacts: []sink.Contact{contact("bob@example.com", "SMS", `"+33639980001"`)}}, sink.Reject},
		{"looked at, unlinked and emptied", &sink.Request{Kind: sink.Update, Lists: []int64{43}, Unlink: []int64{42}, Look: []string{"nobody@example.com"}, Contacts: []sink.Contact{contact("ann+x@example.com", "SMS", `""`)}}, sink.Applied},
		{"of nobody", &sink.Request{Kind: sink.Update, Unlink: []int64{42}, Contacts: []sink.Contact{contact("nobody@example.com")}}, sink.Applied},
		{"added", &sink.Request{Kind: sink.Add, Lists: []int64{42}, Contacts: []sink.Contact{ann}}, sink.Applied},
		{"added again", &sink.Request{Kind: sink.Add, Lists: []int64{42}, Contacts: []sink.Contact{ann}}, sink.Retry},
		{"to a list that is gone", &sink.Request{Kind: sink.Add, Lists: []int64{99}, Contacts: []sink.Contact{ann}}, sink.Halt},
		{"removed", &sink.Request{Kind: sink.Remove, Unlink: []int64{42}, Contacts: []sink.Contact{ann}}, sink.Applied},
		{"removed again", &sink.Request{Kind: sink.Remove, Unlink: []int64{42}, Contacts: []sink.Contact{ann}}, sink.Applied},
		{"imported as JSON", &sink.Request{Kind: sink.Import, Lists: []int64{42}, Contacts: []sink.Contact{bob}}, sink.Accepted},
		{"imported as CSV", &sink.Request{Kind: sink.Import, Lists: []int64{42}, Erase: true, Contacts: []sink.Contact{contact("cy@example.com", "FIRSTNAME", `""`), contact("no-address", "FIRSTNAME", `"x"`)}}, sink.Accepted},
		{"deleted", &sink.Request{Kind: sink.Delete, Unlink: []int64{43}, Look: []string{"ann+x@example.com"}, Contacts: []sink.Contact{contact("ann+x@example.com")}}, sink.Applied},
		{"deleted again", &sink.Request{Kind: sink.Delete, Unlink: []int64{43}, Contacts: []sink.Contact{contact("ann+x@example.com")}}, sink.Applied},
	} {
		if o := send(step.r); o.Verdict != step.want {
			t.Errorf("%s: %+v", step.name, o)
		}
	}
	time.Sleep(50 * time.Millisecond)
	processes, err := c.Processes(ctx)
	if err != nil || len(processes) != 2 || len(processes[0].Reports) != 1 {
		t.Errorf("processes: %+v, %v", processes, err)
	}
	for _, r := range processes[0].Reports {
		if names, _, err := c.Report(ctx, r); err != nil || !slices.Equal(names, nil) && len(names) > 0 {
			t.Errorf("report: %v, %v", names, err)
		}
	}
	for what, err := range map[string]error{
		"process": second(c.Process(ctx, processes[0].ID)), "list": second(c.List(ctx, 42)), "attributes": second(c.Attributes(ctx)), "account": second(c.Account(ctx)),
		"a new attribute": c.CreateAttribute(ctx, "CITY", sink.Text),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	s.Unsubscribe("bob@example.com")
	exported, paged := map[string]sink.Listed{}, map[string]sink.Listed{}
	note := func(all map[string]sink.Listed) func(*sink.Listed) {
		return func(l *sink.Listed) {
			all[l.Address] = sink.Listed{Blocked: l.Blocked, Attributes: maps.Clone(l.Attributes)}
		}
	}
	id, err := c.Export(ctx, 42, []string{"FIRSTNAME"})
	time.Sleep(50 * time.Millisecond)
	p, looked := c.Process(ctx, id)
	if err := errors.Join(err, looked, c.Exported(ctx, p.File, []string{"FIRSTNAME"}, note(exported)), c.Members(ctx, 42, []string{"FIRSTNAME"}, note(paged))); err != nil {
		t.Fatal(err)
	}
	for _, all := range []map[string]sink.Listed{exported, paged} {
		if b := all["bob@example.com"]; len(all) != 2 || !b.Blocked || b.Attributes["FIRSTNAME"] != `Bob; the "B"` || all["cy@example.com"].Blocked {
			t.Errorf("the list was read as %+v", all)
		}
	}
	s.Order(sandbox.Fault{Status: http.StatusTooManyRequests, Endpoint: "/contacts"})
	send(&sink.Request{Kind: sink.Upsert, Contacts: []sink.Contact{bob}})
	for _, stray := range j.strays {
		t.Error(stray)
	}
	for i, d := range deviations {
		if !j.used[i] {
			t.Errorf("the deviation %q of %s does not occur any more: %s", d.contains, d.endpoint, d.fact)
		}
	}
	if len(j.seen) < 15 {
		t.Errorf("only %d endpoints were called: %v", len(j.seen), j.seen)
	}
}

func second[T any](_ T, err error) error { return err }

// A list is read by pages though people leave it meanwhile: nobody who stays is missed.
func TestPagesMissNobodyWhoStays(t *testing.T) {
	s := sandbox.New(sandbox.Options{Key: "k", Lists: []int64{42}})
	server := httptest.NewServer(s)
	defer server.Close()
	c := sendinblue.New(sendinblue.Options{
		BaseURL: server.URL + "/v3", Key: func() string { return "k" }, Rate: sendinblue.Rate{ContactsPerSecond: 1000, ContactsPerHour: 100_000, OtherPerHour: 1000, Share: 1},
	})
	defer c.Close()
	name := func(i int) string { return fmt.Sprintf("p%d@example.com", i) }
	for i := range 3500 {
		s.Put(name(i), []int64{42}, nil)
	}
	seen := map[string]bool{}
	left := 0
	err := c.Members(t.Context(), 42, nil, func(l *sink.Listed) {
		if seen[l.Address] = true; len(seen)%10 == 0 && left < 300 { // the first ones leave
			s.TakeOut(name(left), 42)
			left++
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := left; i < 3500; i++ {
		if !seen[name(i)] {
			t.Fatalf("%s is missed", name(i))
		}
	}
}
