package sendinblue

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"segsync/sink"
)

// problem is the API's error body. Code is an open set and may be missing; the body may not be JSON at all.
type problem struct {
	Code     string `json:"code"`
	Message  string `json:"message"`
	Metadata struct {
		Duplicates []string `json:"duplicate_identifiers"`
	} `json:"metadata"`
	ip string // that the account blocks, as the message told
}

// codes are those that the API was seen to answer with. They are an open set, but what becomes a label or a row is not:
// any other is "other", and what it was is told by the message.
var codes = []string{
	"account_in_process", "account_under_validation", "bad_request", "consent_group_not_enabled", "document_not_found",
	"duplicate_parameter", "duplicate_request", "invalid_parameter", "method_not_allowed", "missing_parameter",
	"not_acceptable", "not_enough_credits", "out_of_range", "permission_denied", "too_many_requests", "unauthorized",
	"unprocessable_entity",
}

const (
	codeOther = "other"
	// Words of segsync's own.
	codeListGone  = "list_gone"
	codeBlockedIP = "blocked_ip"
	codeRedirect  = "redirect"
)

// printable is a text of others, fit to be shown: cut, and without what a terminal would obey.
func printable(s string, most int) string {
	s = strings.ToValidUTF8(s[:min(len(s), 4*most)], "")
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	if r := []rune(s); len(r) > most {
		s = string(r[:most])
	}
	return s
}

// masked is a text of others, fit for a log: printable, and without addresses and numbers.
func masked(s string, most int) string { return private.ReplaceAllString(printable(s, most), "…") }

// private matches what must not leave in a message: addresses and numbers.
var private = regexp.MustCompile(`\S+@\S+|\+?\d[\d .-]{4,}\d`)

func parseProblem(body []byte) problem {
	var p problem
	if json.Unmarshal(body, &p) != nil {
		p.Message = "the answer is not JSON"
	}
	for _, word := range strings.FieldsFunc(p.Message[:min(len(p.Message), 1000)], func(r rune) bool { return r == ' ' || r == ',' || r == '"' }) {
		if ip := net.ParseIP(strings.TrimRight(word, ".")); ip != nil {
			p.ip = ip.String()
			break
		}
	}
	p.Message = masked(p.Message, 300)
	if code := strings.ToLower(p.Code); slices.Contains(codes, code) {
		p.Code = code
	} else if p.Code != "" {
		p.Message = strings.TrimSpace("code " + masked(p.Code, 60) + ": " + p.Message)
		p.Code = codeOther
	}
	return p
}

// status says what an HTTP status means, whatever was asked; ok is false where that depends on the request.
func status(code int, p problem, wait time.Duration) (o sink.Outcome, ok bool) {
	o = sink.Outcome{Code: p.Code, Message: p.Message}
	if o.Code == "" {
		o.Code = http.StatusText(code)
	}
	if o.Code == "" { // 524, and others that no standard names
		o.Code = fmt.Sprintf("status %d", code)
	}
	switch {
	case code >= 200 && code < 300:
		o.Verdict = sink.Applied
	case code >= 300 && code < 400:
		o.Verdict, o.Code = sink.Halt, codeRedirect
		o.Message = "the API answered with a redirect, which is never followed: it would carry the key to another host; check base_url"
	case code == http.StatusUnauthorized && strings.Contains(strings.ToLower(p.Message), "ip address"):
		o.Verdict, o.Code, o.Message = sink.Halt, codeBlockedIP, "the account blocks the IP address "+p.ip
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusPaymentRequired, p.Code == "account_under_validation":
		o.Verdict = sink.Halt
	case code == http.StatusTooEarly, code == http.StatusTooManyRequests:
		o.Verdict, o.Certain, o.Busy, o.Wait = sink.Retry, true, code == http.StatusTooManyRequests, wait // a 429's own wait is the limiter's, for all calls
	case code == http.StatusRequestTimeout, code >= 500:
		o.Verdict, o.Alone = sink.Retry, true
	default:
		return o, false
	}
	o.Mend = mend(o)
	return o, true
}

// listGone is the halt of a list that does not exist any more.
func listGone(list int64) sink.Outcome {
	o := sink.Outcome{Verdict: sink.Halt, Code: codeListGone, List: list, Message: "the list does not exist"}
	o.Mend = mend(o)
	return o
}

// mend says what to do about an answer that halts a list or the account; "" of any other.
func mend(o sink.Outcome) string {
	switch {
	case o.Verdict != sink.Halt:
		return ""
	case o.Code == codeBlockedIP:
		return o.Message + ": authorise this IP address in the account's security settings, or send through a fixed address with HTTPS_PROXY"
	case o.Code == codeListGone:
		return "the list does not exist any more: make it again, or point the export at another list"
	case o.Code == "not_enough_credits":
		return "the account's contract is used up: extend it"
	case o.Code == codeRedirect:
		return o.Message
	case o.Absent:
		return "there is no such API: check base_url (it ends in /v3)"
	}
	return "the account refuses the key: check that api_key is valid and may write contacts and lists (" + o.Message + ")"
}

// classify turns the answer to a write into outcomes. It is pure; a reason per branch.
func classify(r *sink.Request, code int, h http.Header, body []byte) sink.Answer {
	var p problem
	if code >= 300 {
		p = parseProblem(body)
	}
	o, ok := status(code, p, waitOf(h))
	switch {
	case ok && o.Verdict == sink.Applied:
		return applied(r, o, body)
	case ok:
		return sink.All(o)
	case code == http.StatusNotFound && r.Kind == sink.Update && len(r.Lists)+len(r.Unlink) > 0 && strings.Contains(strings.ToLower(p.Message), "list"):
		return sink.All(listGone(slices.Concat(r.Lists, r.Unlink)[0])) // it is not the contact that is missing
	case code == http.StatusNotFound && (r.Kind == sink.Update || r.Kind == sink.Delete):
		o.Verdict, o.Absent = sink.Applied, true // it is in no list, which is what was asked of the lists to leave
		return sink.All(o)
	case code == http.StatusNotFound, p.Code == "document_not_found":
		list := int64(0)
		if lists := slices.Concat(r.Lists, r.Unlink); len(lists) > 0 {
			list = lists[0]
		}
		return sink.All(listGone(list))
	case r.Kind == sink.Remove && nobody(p):
		o.Verdict = sink.Applied // all were out already, or do not exist
		return sink.All(o)
	case r.Kind == sink.Add && (nobody(p) || len(r.Contacts) == 1):
		return sink.All(notAdded) // in already, or no such contact: only an upsert can tell
	case len(r.Contacts) > 1:
		o.Verdict, o.Split = sink.Reject, true // no culprit is named: find it by halves
		return sink.All(o)
	}
	o.Verdict = sink.Reject
	o.Attribute = culprit(p, r)
	if o.Attribute != "" {
		o.Code = "attribute_refused"
	}
	return sink.All(o)
}

// notAdded is an add that did not name the contact as added: the contact may not exist, so its attributes are not
// known to be there, and the next write is an upsert.
var notAdded = sink.Outcome{Verdict: sink.Retry, Certain: true, Absent: true, Code: "not_added"}

// nobody says whether an add or remove answered that every identifier failed (both arms of the API's message).
func nobody(p problem) bool {
	m := strings.ToLower(p.Message)
	return strings.Contains(m, "does not exist") && (strings.Contains(m, "already in list") || strings.Contains(m, "already removed from list"))
}

func applied(r *sink.Request, o sink.Outcome, body []byte) sink.Answer {
	switch r.Kind {
	case sink.Import:
		var accepted struct {
			ProcessID int64 `json:"processId"`
		}
		if json.Unmarshal(body, &accepted) != nil || accepted.ProcessID == 0 {
			return sink.All(sink.Outcome{Code: "no_process_id", Message: "the import was answered without a process id"})
		}
		return sink.Answer{Outcomes: []sink.Outcome{{Verdict: sink.Accepted}}, Process: accepted.ProcessID}
	case sink.Add:
		return added(r, o, body)
	default:
		return sink.All(o)
	}
}

// added counts only those that the answer names as added.
func added(r *sink.Request, o sink.Outcome, body []byte) sink.Answer {
	var answer struct {
		Contacts struct {
			Success []string `json:"success"`
		} `json:"contacts"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return sink.All(notAdded)
	}
	in := make(map[string]bool, len(answer.Contacts.Success))
	for _, a := range answer.Contacts.Success {
		in[strings.ToLower(a)] = true
	}
	all := make([]sink.Outcome, len(r.Contacts))
	for i := range r.Contacts {
		all[i] = notAdded
		if in[r.Contacts[i].Address] {
			all[i] = o
		}
	}
	return sink.Answer{Outcomes: all}
}

// culprit is the attribute that a 400 names: a number that somebody else has, or one that is malformed.
func culprit(p problem, r *sink.Request) string {
	for _, d := range p.Metadata.Duplicates {
		if d = strings.ToUpper(d); slices.Contains(unique, d) {
			return d
		}
	}
	m := strings.ToUpper(p.Message)
	if strings.Contains(m, "ALREADY ASSOCIATED") {
		for _, u := range unique {
			if strings.Contains(m, u) {
				return u
			}
		}
	}
	switch {
	case strings.Contains(m, "WHATSAPP"):
		return "WHATSAPP"
	case strings.Contains(m, "LANDLINE"):
		return "LANDLINE_NUMBER"
	case strings.Contains(m, "PHONE NUMBER"):
		return malformed(r)
	}
	return ""
}

// malformed is the number of a contact that is none: the answer says only that one is. Where all look well it is the first.
func malformed(r *sink.Request) string {
	first := ""
	for i := range r.Contacts {
		for _, a := range r.Contacts[i].Attributes {
			if a.Name == ExtID || !slices.Contains(unique, a.Name) || a.Empties() {
				continue
			}
			if !wellFormed.Match(a.Value) {
				return a.Name
			}
			if first == "" || a.Name == "SMS" {
				first = a.Name
			}
		}
	}
	return first
}

// wellFormed is a number that can be one, as a JSON literal.
var wellFormed = regexp.MustCompile(`^"\+?[0-9]{6,17}"$`)

// waitMost bounds what an answer can make one contact wait.
const waitMost = time.Minute

func waitOf(h http.Header) time.Duration {
	n, _ := header(h, "Retry-After")
	return min(time.Duration(n)*time.Second, waitMost)
}
