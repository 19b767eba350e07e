package sendinblue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"segsync/sink"
)

func one(kind sink.Kind) *sink.Request {
	return &sink.Request{Kind: kind, Lists: []int64{42}, Unlink: []int64{42}, Contacts: []sink.Contact{{Address: "a@example.com", Attributes: []sink.Attribute{{Name: "SMS", Value: []byte(`"+33639980001"`)}}}}}
}

func two(kind sink.Kind) *sink.Request {
	r := one(kind)
	r.Contacts = append(r.Contacts, sink.Contact{Address: "b@example.com"})
	return r
}

func TestEveryStatusHasItsVerdict(t *testing.T) {
	for name, c := range map[string]struct {
		r      *sink.Request
		status int
		body   string
		want   sink.Outcome // of the first contact; messages are not compared
	}{
		"created":                    {one(sink.Upsert), 201, `{"id":1}`, sink.Outcome{Verdict: sink.Applied}},
		"updated":                    {one(sink.Upsert), 204, ``, sink.Outcome{Verdict: sink.Applied}},
		"a redirect":                 {one(sink.Upsert), 302, ``, sink.Outcome{Verdict: sink.Halt, Code: "redirect"}},
		"wrong key":                  {one(sink.Upsert), 401, `{"code":"unauthorized","message":"Key not found"}`, sink.Outcome{Verdict: sink.Halt, Code: "unauthorized"}},
		"blocked address":            {one(sink.Upsert), 401, `{"code":"unauthorized","message":"We have detected you are using an unrecognised IP address"}`, sink.Outcome{Verdict: sink.Halt, Code: "blocked_ip"}},
		"contract used up":           {one(sink.Upsert), 402, `{"code":"not_enough_credits","message":""}`, sink.Outcome{Verdict: sink.Halt, Code: "not_enough_credits"}},
		"forbidden":                  {one(sink.Upsert), 403, `{"code":"permission_denied","message":""}`, sink.Outcome{Verdict: sink.Halt, Code: "permission_denied"}},
		"list gone":                  {two(sink.Add), 404, `{"code":"document_not_found","message":"List ID does not exist"}`, sink.Outcome{Verdict: sink.Halt, Code: "list_gone", List: 42}},
		"contact gone on update":     {one(sink.Update), 404, `{"code":"document_not_found","message":""}`, sink.Outcome{Verdict: sink.Applied, Absent: true, Code: "document_not_found"}},
		"contact gone on delete":     {one(sink.Delete), 404, `{"code":"document_not_found","message":""}`, sink.Outcome{Verdict: sink.Applied, Absent: true, Code: "document_not_found"}},
		"too early":                  {one(sink.Upsert), 425, `{"code":"account_in_process","message":""}`, sink.Outcome{Verdict: sink.Retry, Certain: true, Code: "account_in_process"}},
		"too many":                   {one(sink.Upsert), 429, ``, sink.Outcome{Verdict: sink.Retry, Certain: true, Busy: true, Code: "Too Many Requests"}},
		"a timeout there":            {one(sink.Upsert), 408, ``, sink.Outcome{Verdict: sink.Retry, Alone: true, Code: "Request Timeout"}},
		"server error":               {one(sink.Upsert), 500, `{"code":"x","message":""}`, sink.Outcome{Verdict: sink.Retry, Alone: true, Code: "other"}},
		"HTML of a proxy":            {one(sink.Upsert), 524, `<html>`, sink.Outcome{Verdict: sink.Retry, Alone: true}},
		"somebody else's number":     {one(sink.Upsert), 400, `{"code":"duplicate_parameter","message":"Unable to create contact","metadata":{"duplicate_identifiers":["SMS"]}}`, sink.Outcome{Verdict: sink.Reject, Attribute: "SMS", Code: "attribute_refused"}},
		"somebody else's, by text":   {one(sink.Upsert), 400, `{"code":"invalid_parameter","message":"Unable to update contact, SMS is already associated with another Contact"}`, sink.Outcome{Verdict: sink.Reject, Attribute: "SMS", Code: "attribute_refused"}},
		"malformed number":           {one(sink.Upsert), 400, `{"code":"invalid_parameter","message":"Invalid phone number"}`, sink.Outcome{Verdict: sink.Reject, Attribute: "SMS", Code: "attribute_refused"}},
		"bad address":                {one(sink.Upsert), 400, `{"code":"invalid_parameter","message":"email is not valid"}`, sink.Outcome{Verdict: sink.Reject, Code: "invalid_parameter"}},
		"removed already":            {two(sink.Remove), 400, `{"code":"invalid_parameter","message":"Contact already removed from list and/or does not exist"}`, sink.Outcome{Verdict: sink.Applied, Code: "invalid_parameter"}},
		"in already or not there":    {two(sink.Add), 400, `{"code":"invalid_parameter","message":"Contact already in list and/or does not exist"}`, notAdded},
		"a bulk call as a whole":     {two(sink.Import), 400, `{"code":"bad_request","message":""}`, sink.Outcome{Verdict: sink.Reject, Split: true, Code: "bad_request"}},
		"a body too large":           {two(sink.Import), 413, ``, sink.Outcome{Verdict: sink.Reject, Split: true, Code: "Request Entity Too Large"}},
		"an import is only accepted": {two(sink.Import), 202, `{"processId":7}`, sink.Outcome{Verdict: sink.Accepted}},
		"202 without a process":      {two(sink.Import), 202, `{}`, sink.Outcome{Code: "no_process_id"}},
		"added":                      {two(sink.Add), 201, `{"contacts":{"success":["a@example.com"],"failure":["b@example.com"]}}`, sink.Outcome{Verdict: sink.Applied}},
	} {
		t.Run(name, func(t *testing.T) {
			got := classify(c.r, c.status, http.Header{}, []byte(c.body)).Of(0)
			if c.want.Code == "" {
				got.Code = ""
			}
			if (got.Mend != "") != (got.Verdict == sink.Halt) {
				t.Errorf("what to do about %s: %q", got.Verdict, got.Mend)
			}
			got.Message, got.Mend = "", ""
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
	a := classify(two(sink.Add), 201, http.Header{}, []byte(`{"contacts":{"success":["a@example.com"]}}`))
	if a.Of(1) != notAdded {
		t.Errorf("an add that was not named as a success is %+v", a.Of(1))
	}
}

// An outcome that nobody set never counts as delivered, and may have been applied.
func TestTheZeroOutcomeIsAnUncertainRetry(t *testing.T) {
	o := sink.Answer{}.Of(0)
	if o.Verdict != sink.Retry || o.Certain {
		t.Errorf("%+v", o)
	}
}

// Quiet: whatever the API writes into its messages, no address and no number leaves with ours.
func TestMessagesCarryNoPersonsData(t *testing.T) {
	body := `{"code":"invalid_parameter","message":"jane.doe@example.com with +33 6 39 98 00 01 is bad"}`
	o := classify(one(sink.Upsert), 400, http.Header{}, []byte(body)).Of(0)
	if strings.Contains(o.Message, "jane") || strings.Contains(o.Message, "39") {
		t.Errorf("the message is %q", o.Message)
	}
}

func client(t *testing.T, h http.HandlerFunc, lease func() bool) (*Client, string) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return New(Options{BaseURL: s.URL, Key: func() string { return "secret" }, Rate: Rate{ContactsPerSecond: 100, ContactsPerHour: 1000, OtherPerHour: 100, Share: 1}, Lease: lease}), s.URL
}

func TestARedirectIsNeverFollowed(t *testing.T) {
	leaked := make(chan string, 1)
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { leaked <- r.Header.Get("api-key") }))
	defer other.Close()
	c, _ := client(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	}, nil)
	if o := c.Send(t.Context(), one(sink.Upsert)).Of(0); o.Verdict != sink.Halt {
		t.Errorf("%+v", o)
	}
	select {
	case k := <-leaked:
		t.Errorf("the key %q went to another host", k)
	default:
	}
}

func TestWithoutALeaseNoByteIsSent(t *testing.T) {
	calls := 0
	c, _ := client(t, func(http.ResponseWriter, *http.Request) { calls++ }, func() bool { return false })
	if o := c.Send(t.Context(), one(sink.Upsert)).Of(0); o.Verdict != sink.Retry || calls > 0 {
		t.Errorf("%+v, %d calls", o, calls)
	}
}

// S14: a contact found blocked is not written elsewhere, and not deleted.
func TestTheLookComesFirst(t *testing.T) {
	var seen []string
	c, _ := client(t, func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Method)
		if r.Method == http.MethodGet {
			_, _ = fmt.Fprint(w, `{"emailBlacklisted":true}`)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}, nil)
	r := one(sink.Upsert)
	r.Look = []string{"old@example.com"}
	c.Reserve(r.Calls())
	if o := c.Send(t.Context(), r).Of(0); o.Verdict != sink.Blocked || o.Address != "old@example.com" || len(seen) != 1 {
		t.Errorf("%+v after %v", o, seen)
	}
	d := one(sink.Delete)
	d.Look = []string{"a@example.com"}
	c.Reserve(d.Calls())
	if o := c.Send(t.Context(), d).Of(0); o.Verdict != sink.Applied || len(seen) != 3 || seen[2] != http.MethodPut {
		t.Errorf("%+v after %v: a blocked contact only leaves the list", o, seen)
	}
}

func TestReportsAreFetchedWithoutTheKey(t *testing.T) {
	key := "none"
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key = r.Header.Get("api-key")
		_, _ = fmt.Fprint(w, "EMAIL;X\nA@example.com;1\n")
	}))
	defer s.Close()
	c, _ := client(t, nil, nil)
	got, means, err := c.Report(t.Context(), sink.Report{Reason: "duplicate_phone_id", Address: s.URL})
	if means.Verdict != sink.Reject || means.Attribute != "SMS" {
		t.Errorf("it means %+v", means)
	}
	if err != nil || len(got) != 1 || got[0] != "a@example.com" || key != "" {
		t.Errorf("%v, %v, key %q", got, err, key)
	}
	if _, means, err := c.Report(t.Context(), sink.Report{Reason: "invalid_emails", Address: "http://reports.example.com/x"}); err == nil || means.Attribute != "" {
		t.Error("a report over plain http from elsewhere is fetched")
	}
}

func TestAReadTellsItsVerdict(t *testing.T) {
	c, _ := client(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err := c.List(ctx, 42)
	var o *sink.OutcomeError
	if !errors.As(err, &o) || o.Outcome.Verdict != sink.Halt {
		t.Errorf("%v", err)
	}
}

func TestImportsCarryWhatTheyCanFaithfully(t *testing.T) {
	attr := func(pairs ...string) *sink.Contact {
		c := &sink.Contact{Address: "a@example.com"}
		for i := 0; i < len(pairs); i += 2 {
			c.Attributes = append(c.Attributes, sink.Attribute{Name: pairs[i], Value: []byte(pairs[i+1])})
		}
		return c
	}
	for name, c := range map[string]struct {
		c     *sink.Contact
		group string
		ok    bool
	}{
		"plain values as CSV":              {attr("A", `"x"`, "B", "1.5", "C", "false"), formCSV, true},
		"a separator as JSON":              {attr("A", `"x;y"`), formJSON, true},
		"false beside a separator not":     {attr("A", `"x;y"`, "C", "false"), "", false},
		"a list not":                       {attr("A", `["x"]`), "", false},
		"what empties with its like":       {attr("A", `""`, "B", `"x"`), formCSV + ":A,B,", true},
		"what empties beside a quote not":  {attr("A", `""`, "B", `"x\"y"`), "", false},
		"spaces at the ends as JSON":       {attr("A", `" x"`), formJSON, true},
		"an external id beside a quote no": {attr("A", `"x;"`, ExtID, `"7"`), "", false},
	} {
		t.Run(name, func(t *testing.T) {
			group, _, _, ok := row(c.c)
			if group != c.group || ok != c.ok {
				t.Errorf("%q, %v", group, ok)
			}
		})
	}
	r := &sink.Request{Kind: sink.Import, Lists: []int64{42}, Contacts: []sink.Contact{*attr("B", "true"), *attr("A", `"x"`)}}
	body := string(importBody(r))
	if !strings.Contains(body, `"fileBody":"EMAIL;A;B\na@example.com;;Yes\na@example.com;x;"`) || !strings.Contains(body, `"disableNotification":true`) || strings.Contains(body, "lacklist") {
		t.Error(body)
	}
}

// S73: what an answer says of itself is bounded, masked and fit for a terminal before anybody sees it (K1).
func TestS73AnAnswersWordsAreBounded(t *testing.T) {
	code := "ann@example.com \x1b[31m" + strings.Repeat("x", 2<<20)
	body, err := json.Marshal(map[string]string{"code": code, "message": "\x1b]0;title\x07 +33 6 39 98 01 23 " + strings.Repeat("y", 2<<20)})
	if err != nil {
		t.Fatal(err)
	}
	for _, status := range []int{400, 401, 404, 500} {
		o := classify(one(sink.Upsert), status, http.Header{}, body).Of(0)
		if len(o.Code) > 64 || len(o.Message) > 4*400 {
			t.Errorf("%d: a code of %d and a message of %d bytes", status, len(o.Code), len(o.Message))
		}
		for _, bad := range []string{"ann@", "\x1b", "\x07", "39 98"} {
			if strings.Contains(o.Code+o.Message, bad) {
				t.Errorf("%d: %q is told", status, bad)
			}
		}
	}
	blocked := classify(one(sink.Upsert), 401, http.Header{}, []byte(`{"code":"unauthorized","message":"We have detected you are using an unrecognised IP address 192.0.2.1. Authorise it"}`)).Of(0)
	if blocked.Code != "blocked_ip" || !strings.Contains(blocked.Message, "192.0.2.1") {
		t.Errorf("the blocked address is not told: %+v", blocked)
	}
}

// S83: a report is read from the API's own hosts, or configured ones, over https; nothing of this network (ADVERSARY S14).
func TestS83WhereReportsMayLie(t *testing.T) {
	for base, addresses := range map[string]map[string]bool{
		DefaultBaseURL: {
			"https://api.brevo.com/x.csv": true, "https://files.brevo.com/x.csv": true, "https://img.sendinblue.com/x": true, "https://reports.example.com/x": true,
			"http://files.brevo.com/x": false, "https://brevo.com.evil.example/x": false, "https://evilbrevo.com/x": false, "http://127.0.0.1/x": false, "https://localhost/x": false,
			"https://169.254.169.254/latest": false, "file:///etc/passwd": false, "https://me:pw@files.brevo.com/x": false, "https://10.0.0.1/x": false,
		},
		"http://localhost:8088/v3": {"http://127.0.0.1:8088/x": true, "https://files.brevo.com/x": false},
	} {
		c := New(Options{BaseURL: base, Hosts: []string{"reports.example.com"}})
		for address, want := range addresses {
			u, err := url.Parse(address)
			if err != nil {
				t.Fatal(err)
			}
			if got := c.mayRead(u); got != want {
				t.Errorf("of %s, %s may be read: %v", base, address, got)
			}
		}
	}
	for ip, want := range map[string]bool{"8.8.8.8": true, "127.0.0.1": false, "10.1.1.1": false, "192.168.1.1": false, "169.254.169.254": false, "::1": false, "fe80::1": false, "fd00::1": false} {
		if public(net.ParseIP(ip)) != want {
			t.Errorf("%s is public: %v", ip, !want)
		}
	}
}

// The answer to a malformed number does not say which: it is the one that is none.
func TestAMalformedNumberNamesItsAttribute(t *testing.T) {
	for want, numbers := range map[string][]sink.Attribute{
		"SMS":             {{Name: "SMS", Value: []byte(`"n/a"`)}, {Name: "WHATSAPP", Value: []byte(`"+33639980001"`)}},
		"WHATSAPP":        {{Name: "SMS", Value: []byte(`"+33639980001"`)}, {Name: "WHATSAPP", Value: []byte(`"n/a"`)}},
		"LANDLINE_NUMBER": {{Name: "EXT_ID", Value: []byte(`"n/a"`)}, {Name: "LANDLINE_NUMBER", Value: []byte(`"+33639980001"`)}, {Name: "SMS", Value: []byte(`""`)}},
		"":                {{Name: "FIRSTNAME", Value: []byte(`"Ann"`)}},
	} {
		r := &sink.Request{Kind: sink.Upsert, Lists: []int64{42}, Contacts: []sink.Contact{{Address: "a@example.com", Attributes: numbers}}}
		if o := classify(r, 400, http.Header{}, []byte(`{"code":"invalid_parameter","message":"Invalid phone number"}`)).Of(0); o.Verdict != sink.Reject || o.Attribute != want {
			t.Errorf("%v: %+v, not %s", numbers, o, want)
		}
	}
}

// What halts says what to do about it, whatever was asked: a write, a look before one, or a list.
func TestEveryHaltSaysWhatToDo(t *testing.T) {
	c, _ := client(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }, nil)
	looked := one(sink.Upsert)
	looked.Look = []string{"old@example.com"}
	for _, r := range []*sink.Request{one(sink.Upsert), looked} {
		c.Reserve(r.Calls())
		if o := c.Send(t.Context(), r).Of(0); o.Verdict != sink.Halt || o.Mend == "" {
			t.Errorf("%+v", o)
		}
	}
	var o *sink.OutcomeError
	if _, err := c.List(t.Context(), 42); !errors.As(err, &o) || o.Outcome.Mend == "" {
		t.Errorf("%v", err)
	}
}

// The account's attributes as it lists them: categories with their options in both forms, and those that no contact has.
func TestTheAccountsAttributes(t *testing.T) {
	c, _ := client(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, `{"attributes":[
			{"name":"firstname","category":"normal","type":"text"},
			{"name":"GENDER","category":"category","enumeration":[{"value":1,"label":"Man"},{"value":2,"label":"Woman"}]},
			{"name":"PLAN","category":"category","enumeration":[{"value":0,"valueStr":"free","label":"Free of charge"}]},
			{"name":"COLOURS","category":"normal","type":"multiple-choice","multiCategoryOptions":["red","blue"]},
			{"name":"TOTAL","category":"calculated","calculatedValue":"SUM[x]"},
			{"name":"ORDER_PRICE","category":"transactional","type":"float"},
			{"name":"ODD","category":"normal"}]}`)
	}, nil)
	got, err := c.Attributes(t.Context())
	want := map[string]sink.AttributeInfo{
		"EXT_ID": {Type: sink.Text}, "FIRSTNAME": {Type: sink.Text}, "ODD": {Type: sink.Text},
		"GENDER":  {Type: sink.Category, Options: []string{"1", "2", "Man", "Woman"}},
		"PLAN":    {Type: sink.Category, Options: []string{"Free of charge", "free"}},
		"COLOURS": {Type: sink.MultipleChoice, Options: []string{"blue", "red"}},
		"TOTAL":   {Type: sink.Calculated}, "ORDER_PRICE": {Type: sink.Transactional},
	}
	if err != nil || !maps.EqualFunc(got, want, sink.AttributeInfo.Equal) {
		t.Errorf("%+v, %v", got, err)
	}
}
