package sandbox

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Options of a sandbox.
type Options struct {
	Key        string // what callers must send; "" anything
	Account    string // whose it is, an address; "" owner@example.com
	Lists      []int64
	Attributes map[string]string // name to type; nil: the usual ones
	Rates      Rates
	// Latency of each answer.
	Latency time.Duration
	// ImportTime and ImportRowTime are how long an import takes: at all, and for each row.
	ImportTime, ImportRowTime time.Duration
	ExportTime                time.Duration // how long an export takes
	Now                       func() time.Time
	Seed                      uint64
	// Observe is handed each call with its answer, for tests that hold them against a description.
	Observe func(r *http.Request, body []byte, status int, header http.Header, answer []byte)
}

// DefaultAttributes are those of a new account, and some to try types with.
func DefaultAttributes() map[string]string {
	return map[string]string{
		"FIRSTNAME": "text", "LASTNAME": "text", "SMS": "text", "WHATSAPP": "text", "LANDLINE_NUMBER": "text",
		"COUNTRY": "text", "BIRTHDAY": "date", "LTV": "float", "NEWSLETTER": "boolean", "TAGS": "multiple-choice",
	}
}

// Server is a sandbox: the API as an http.Handler, its Account, and a handler for its control address.
type Server struct {
	*Account
	o    Options
	mu   sync.Mutex
	rand *rand.Rand
}

// New makes a sandbox.
func New(o Options) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Attributes == nil {
		o.Attributes = DefaultAttributes()
	}
	s := &Server{Account: newAccount(o), o: o, rand: rand.New(rand.NewPCG(o.Seed, 1))} //nolint:gosec // faults need repeating, not secrecy
	s.calls.Rates = o.Rates
	return s
}

// SetBaseURL tells the sandbox under which address it is served, for the addresses of reports.
func (s *Server) SetBaseURL(u string) {
	s.Account.mu.Lock()
	defer s.Account.mu.Unlock()
	s.baseURL = strings.TrimSuffix(u, "/")
}

func (s *Server) random() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rand.Float64()
}

// recorder keeps an answer until faults have had their say.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }

// ServeHTTP is the API.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.EscapedPath(), "/v3")
	if strings.HasPrefix(path, "/_reports/") {
		s.report(w, path)
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 12<<20))
	if err != nil {
		return
	}
	rec := &recorder{header: http.Header{}, status: http.StatusOK}
	admitted := s.admit(rec, r, path)
	if s.o.Latency > 0 {
		time.Sleep(s.o.Latency)
	}
	fault := s.begin(r.Method, path, body)
	if fault != nil && fault.DelayMillis > 0 {
		time.Sleep(time.Duration(fault.DelayMillis) * time.Millisecond)
	}
	done := s.enter(r.Method, path, body)
	switch {
	case !admitted: // and answered so
	case fault == nil:
		s.serve(rec, r, path, body, nil)
	case fault.Hang:
		<-r.Context().Done()
		done()
		return
	case fault.LateMillis > 0:
		done()
		time.AfterFunc(time.Duration(fault.LateMillis)*time.Millisecond, func() { s.serve(&recorder{header: http.Header{}}, r, path, body, nil) })
		panic(http.ErrAbortHandler)
	case fault.Status != 0:
		answer(rec, fault)
	default:
		s.serve(rec, r, path, body, fault)
		time.Sleep(time.Duration(fault.AnswerMillis) * time.Millisecond)
	}
	done()
	if fault != nil && fault.DropAfter {
		panic(http.ErrAbortHandler)
	}
	maps.Copy(w.Header(), rec.header)
	if s.o.Observe != nil {
		s.o.Observe(r, body, rec.status, rec.header, rec.body.Bytes())
	}
	w.WriteHeader(rec.status)
	_, _ = w.Write(rec.body.Bytes())
}

func answer(rec *recorder, f *Fault) {
	rec.header.Set("Content-Type", "application/json")
	for k, v := range f.Header {
		rec.header.Set(k, v)
	}
	rec.status = f.Status
	body := f.Body
	if body == "" {
		body = `{"code":"ordered","message":"a fault was ordered"}`
	}
	rec.body.WriteString(body)
}

// begin counts a call and finds the fault it meets.
func (s *Server) begin(method, path string, body []byte) *Fault {
	s.Account.mu.Lock()
	defer s.Account.mu.Unlock()
	s.stats.Calls[method+" "+endpoint(path)]++
	if bytes.Contains(body, []byte(`lacklisted":false`)) || bytes.Contains(body, []byte(`lacklist":false`)) {
		s.stats.Flags++
	}
	return s.strike(method, path, body, s.random)
}

// enter notes which contacts a write is about, and finds writes that overlap.
func (s *Server) enter(method, path string, body []byte) (done func()) {
	emails := written(method, path, body)
	s.Account.mu.Lock()
	defer s.Account.mu.Unlock()
	for _, e := range emails {
		s.inFlight[e]++
		if s.inFlight[e] > 1 {
			s.stats.Overlapping++
		}
		for _, p := range s.processes {
			if _, in := p.emails[e]; in && !p.ended() {
				s.stats.DuringRun++
			}
		}
	}
	return func() {
		s.Account.mu.Lock()
		defer s.Account.mu.Unlock()
		for _, e := range emails {
			if s.inFlight[e]--; s.inFlight[e] == 0 {
				delete(s.inFlight, e)
			}
		}
	}
}

// written are the addresses that a write names, imports apart.
func written(method, path string, body []byte) []string {
	if method == http.MethodGet || path == "/contacts/import" || path == "/contacts/export" {
		return nil
	}
	var b struct {
		Email  string   `json:"email"`
		Emails []string `json:"emails"`
	}
	_ = json.Unmarshal(body, &b)
	if b.Email != "" {
		return []string{strings.ToLower(b.Email)}
	}
	if len(b.Emails) > 0 {
		return b.Emails
	}
	if rest, ok := strings.CutPrefix(path, "/contacts/"); ok && !strings.Contains(rest, "/") {
		if e, err := url.QueryUnescape(rest); err == nil {
			return []string{strings.ToLower(e)}
		}
	}
	return nil
}

// endpoint is a path without its identifiers.
func endpoint(path string) string {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case len(parts) == 2 && parts[0] == "contacts" && parts[1] != "lists" && parts[1] != "import" && parts[1] != "export" && parts[1] != "attributes":
		parts[1] = "{id}"
	case len(parts) >= 3 && parts[1] == "lists":
		parts[2] = "{id}"
	case len(parts) == 2 && parts[0] == "processes":
		parts[1] = "{id}"
	case len(parts) > 2 && parts[1] == "attributes":
		parts = parts[:2]
	}
	return "/" + strings.Join(parts, "/")
}

// admit counts a call against the account's limits, unless its key is wrong. It does so when the call comes: one that is
// carried out late does not count in the second in which it is.
func (s *Server) admit(w *recorder, r *http.Request, path string) bool {
	s.Account.mu.Lock()
	defer s.Account.mu.Unlock()
	if s.o.Key != "" && r.Header.Get("api-key") != s.o.Key || s.limit(w, path) {
		return true
	}
	s.stats.Refused++
	w.header.Set("Content-Type", "application/json")
	fail(w, http.StatusTooManyRequests, "too_many_requests", "Too many requests")
	return false
}

// serve carries a call out.
func (s *Server) serve(w *recorder, r *http.Request, path string, body []byte, f *Fault) {
	s.Account.mu.Lock()
	defer s.Account.mu.Unlock()
	w.header.Set("Content-Type", "application/json")
	if s.o.Key != "" && r.Header.Get("api-key") != s.o.Key {
		fail(w, http.StatusUnauthorized, "unauthorized", "Key not found")
		return
	}
	s.route(w, r, path, body, f)
}

// limit counts a call against the account's limits and sets the headers of the tighter window.
func (s *Server) limit(w *recorder, path string) bool {
	now := s.o.Now()
	if !strings.HasPrefix(path, "/contacts") {
		remaining, reset, ok := s.calls.other.take(s.calls.OtherPerHour, time.Hour, now)
		headers(w, s.calls.OtherPerHour, remaining, reset)
		return ok
	}
	s.arrived(now)
	perHour, resetHour, okHour := s.calls.hour.take(s.calls.ContactsPerHour, time.Hour, now)
	perSecond, resetSecond, okSecond := s.calls.second.take(s.calls.ContactsPerSecond, time.Second, now)
	if perHour < perSecond {
		headers(w, s.calls.ContactsPerHour, perHour, resetHour)
	} else {
		headers(w, s.calls.ContactsPerSecond, perSecond, resetSecond)
	}
	return okHour && okSecond
}

// arrived counts the calls of one second, wherever it begins.
func (a *Account) arrived(now time.Time) {
	for len(a.came) > 0 && now.Sub(a.came[0]) >= time.Second {
		a.came = a.came[1:]
	}
	a.came = append(a.came, now)
	a.stats.MostASecond = max(a.stats.MostASecond, len(a.came))
}

func headers(w *recorder, limit, remaining int, reset time.Duration) {
	if limit == 0 {
		return
	}
	w.header.Set("x-sib-ratelimit-limit", strconv.Itoa(limit))
	w.header.Set("x-sib-ratelimit-remaining", strconv.Itoa(remaining))
	w.header.Set("x-sib-ratelimit-reset", strconv.Itoa(int(reset.Seconds()+0.999)))
}

func fail(w *recorder, status int, code, message string) {
	w.status = status
	_ = json.NewEncoder(&w.body).Encode(map[string]string{"code": code, "message": message})
}

func refuse(w *recorder, f *refusal) {
	w.status = http.StatusBadRequest
	out := map[string]any{"code": f.code, "message": f.message}
	if len(f.duplicates) > 0 {
		out["metadata"] = map[string]any{"duplicate_identifiers": f.duplicates}
	}
	_ = json.NewEncoder(&w.body).Encode(out)
}

func reply(w *recorder, status int, v any) {
	w.status = status
	if v == nil {
		w.header.Del("Content-Type")
		return
	}
	_ = json.NewEncoder(&w.body).Encode(v)
}

func (s *Server) report(w http.ResponseWriter, path string) {
	s.Account.mu.Lock()
	body, ok := s.reports[path]
	s.Account.mu.Unlock()
	if !ok {
		http.Error(w, "gone", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "text/csv")
	_, _ = io.WriteString(w, body)
}

func (s *Server) route(w *recorder, r *http.Request, path string, body []byte, f *Fault) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	is := func(method string, want ...string) bool {
		return r.Method == method && len(parts) == len(want) && slices.EqualFunc(parts, want, func(p, w string) bool { return w == "*" || p == w })
	}
	switch {
	case is(http.MethodGet, "account"):
		reply(w, http.StatusOK, accountOf(s.o.Account))
	case is(http.MethodGet, "contacts"):
		s.listContacts(w, r)
	case is(http.MethodPost, "contacts", "export"):
		s.exportContacts(w, body, f)
	case is(http.MethodGet, "processes"):
		s.listProcesses(w, r)
	case is(http.MethodGet, "processes", "*"):
		s.getProcess(w, parts[1])
	case is(http.MethodPost, "contacts"):
		s.upsert(w, body)
	case is(http.MethodPost, "contacts", "import"):
		s.importContacts(w, body, f)
	case is(http.MethodGet, "contacts", "attributes"):
		s.listAttributes(w)
	case is(http.MethodPost, "contacts", "attributes", "*", "*"):
		s.createAttribute(w, parts[3], body)
	case is(http.MethodGet, "contacts", "lists"):
		s.listLists(w, r)
	case is(http.MethodPost, "contacts", "lists"):
		s.createList(w, body)
	case is(http.MethodGet, "contacts", "lists", "*"):
		s.withList(w, parts[2], func(l *List) { reply(w, http.StatusOK, s.listBody(l)) })
	case is(http.MethodGet, "contacts", "lists", "*", "contacts"):
		s.withList(w, parts[2], func(l *List) { s.members(w, r, l) })
	case is(http.MethodPost, "contacts", "lists", "*", "contacts", "add"):
		s.withList(w, parts[2], func(l *List) { s.change(w, l, body, true) })
	case is(http.MethodPost, "contacts", "lists", "*", "contacts", "remove"):
		s.withList(w, parts[2], func(l *List) { s.change(w, l, body, false) })
	case is(http.MethodGet, "contacts", "*"), is(http.MethodPut, "contacts", "*"), is(http.MethodDelete, "contacts", "*"):
		s.contactCall(w, r, parts[1], body)
	default:
		fail(w, http.StatusNotFound, "document_not_found", fmt.Sprintf("no such endpoint: %s %s", r.Method, endpoint(path)))
	}
}

// accountOf is whose a sandbox is.
func accountOf(email string) map[string]any {
	if email == "" {
		email = "owner@example.com"
	}
	return map[string]any{
		"email": email, "firstName": "Sand", "lastName": "Box", "companyName": "Sandbox",
		"address": map[string]string{"street": "1 Example Street", "city": "Exampleville", "zipCode": "00000", "country": "France"},
		"plan":    []map[string]any{{"type": "free", "credits": 300, "creditsType": "sendLimit"}},
		"relay": map[string]any{"enabled": true, "data": map[string]any{
			"userName": email, "relay": "smtp.example.com", "port": 587,
		}},
	}
}
