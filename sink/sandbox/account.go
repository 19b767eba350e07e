package sandbox

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Contact is a contact of the account.
type Contact struct {
	ID               int64          `json:"id"`
	Email            string         `json:"email"`
	Attributes       map[string]any `json:"attributes"`
	EmailBlacklisted bool           `json:"emailBlacklisted"`
	SMSBlacklisted   bool           `json:"smsBlacklisted"`
	ListIDs          []int64        `json:"listIds"`
	Unsubscribed     []int64        `json:"listUnsubscribed,omitempty"`
	CreatedAt        time.Time      `json:"createdAt"`
	ModifiedAt       time.Time      `json:"modifiedAt"`
}

// List is a list of the account.
type List struct {
	ID      int64
	Name    string
	Folder  int64
	Dynamic bool
	members map[int64]struct{}
}

// Process is an import or an export on its way.
type Process struct {
	ID      int64
	Status  string
	Reports map[string]string
	export  string // the address of an export's file, once it has ended
	name    string
	emails  map[string]struct{}
	run     func()
}

// Stats are the account's figures; the broken promises are those that a sender of exact lists must not break.
type Stats struct {
	Calls       map[string]int `json:"calls"`         // by endpoint
	Refused     int            `json:"refused"`       // over the rate limits
	Overlapping int            `json:"overlapping"`   // writes of a contact while another write of it was not answered
	DuringRun   int            `json:"during_import"` // writes of a contact that an unfinished import holds
	Flags       int            `json:"flags"`         // blacklist flags sent as false
	Imports     int            `json:"imports"`
	MostImports int            `json:"most_imports"` // unfinished at once
	Rows        int            `json:"import_rows"`
	Lost        int            `json:"lost_rows"`   // of imports, in silence
	Exports     int            `json:"exports"`     // of lists
	MostASecond int            `json:"most_calls"`  // calls below /contacts that came within one second, wherever it begins
	Busy        time.Duration  `json:"import_time"` // in which an import was under way
}

// Account is the state of a sandbox.
type Account struct {
	mu         sync.Mutex
	now        func() time.Time
	nextID     int64
	contacts   map[string]*Contact // by address, in lower case
	byID       map[int64]*Contact
	unique     map[string]int64 // "SMS\x00number" to contact
	lists      map[int64]*List
	attributes map[string]string   // name to type; of categories that have none, the category
	options    map[string][]string // of categories and multiple choices; without any, one takes everything
	processes  []*Process
	reports    map[string]string
	inFlight   map[string]int
	stats      Stats
	faults     []*Fault
	calls      rates
	came       []time.Time // calls below /contacts, within the last second
	importTime time.Duration
	perRow     time.Duration
	exportTime time.Duration
	baseURL    string
}

// uniqueNames are attributes that no two contacts may share.
var uniqueNames = []string{"SMS", "WHATSAPP", "LANDLINE_NUMBER", "EXT_ID"}

func newAccount(o Options) *Account {
	a := &Account{
		now: o.Now, contacts: map[string]*Contact{}, byID: map[int64]*Contact{}, unique: map[string]int64{},
		lists: map[int64]*List{}, attributes: map[string]string{}, reports: map[string]string{}, inFlight: map[string]int{},
		stats: Stats{Calls: map[string]int{}}, importTime: o.ImportTime, perRow: o.ImportRowTime, exportTime: o.ExportTime,
	}
	maps.Copy(a.attributes, o.Attributes)
	for _, id := range o.Lists {
		a.makeList(id, "list", 1)
	}
	return a
}

// Lists returns the addresses of a list with their attributes.
func (a *Account) List(id int64) map[string]map[string]any {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := map[string]map[string]any{}
	if l, ok := a.lists[id]; ok {
		for c := range l.members {
			out[a.byID[c].Email] = maps.Clone(a.byID[c].Attributes)
		}
	}
	return out
}

// Contact returns a copy of one contact.
func (a *Account) Contact(email string) (Contact, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c, ok := a.contacts[strings.ToLower(email)]
	if !ok {
		return Contact{}, false
	}
	out := *c
	out.Attributes, out.ListIDs = maps.Clone(c.Attributes), slices.Clone(c.ListIDs)
	return out, true
}

// Len is how many contacts a list has.
func (a *Account) Len(id int64) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l, ok := a.lists[id]; ok {
		return len(l.members)
	}
	return 0
}

// Retype gives an attribute another type, or makes one.
func (a *Account) Retype(name, kind string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.attributes[name] = kind
}

// Offer gives an attribute the options that it takes.
func (a *Account) Offer(name string, options ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.options == nil {
		a.options = map[string][]string{}
	}
	a.options[name] = options
}

// Put creates or changes a contact behind the API's back, as a person in the web application would.
func (a *Account) Put(email string, lists []int64, attributes map[string]any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.ensure(strings.ToLower(email))
	for _, l := range lists {
		a.join(c, l)
	}
	maps.Copy(c.Attributes, attributes)
	for _, u := range uniqueNames {
		if v, ok := attributes[u].(string); ok {
			a.unique[u+"\x00"+v] = c.ID
		}
	}
}

// Unsubscribe blocks a contact, as its person does by a mail's link.
func (a *Account) Unsubscribe(email string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c, ok := a.contacts[strings.ToLower(email)]; ok {
		c.EmailBlacklisted = true
	}
}

// AddList makes a list; RemoveList deletes one.
func (a *Account) AddList(id int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.lists[id]; !ok {
		a.makeList(id, "list", 1)
	}
}

// NameList makes a list with a name in a folder.
func (a *Account) NameList(id int64, name string, folder int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.makeList(id, name, folder)
}

func (a *Account) makeList(id int64, name string, folder int64) {
	a.lists[id] = &List{ID: id, Name: name, Folder: folder, members: map[int64]struct{}{}}
}

// RemoveList deletes a list.
func (a *Account) RemoveList(id int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.lists, id)
	for _, c := range a.contacts {
		c.ListIDs = slices.DeleteFunc(c.ListIDs, func(l int64) bool { return l == id })
	}
}

// Stats returns a copy of the figures.
func (a *Account) Stats() Stats {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.stats
	s.Calls = maps.Clone(s.Calls)
	return s
}

// Unfinished is how many imports have not ended.
func (a *Account) Unfinished() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.unfinished()
}

func (a *Account) unfinished() (n int) {
	for _, p := range a.processes {
		if p.emails != nil && !p.ended() {
			n++
		}
	}
	return n
}

// TakeOut takes a contact out of a list behind the API's back.
func (a *Account) TakeOut(email string, list int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c, ok := a.contacts[strings.ToLower(email)]; ok {
		a.leave(c, list)
	}
}

func (p *Process) ended() bool {
	return p.Status == "completed" || p.Status == "failed" || p.Status == "cancelled"
}

func (a *Account) ensure(email string) *Contact {
	c, ok := a.contacts[email]
	if !ok {
		a.nextID++
		c = &Contact{ID: a.nextID, Email: email, Attributes: map[string]any{}, ListIDs: []int64{}, CreatedAt: a.now()}
		a.contacts[email], a.byID[c.ID] = c, c
	}
	c.ModifiedAt = a.now()
	return c
}

func (a *Account) join(c *Contact, list int64) {
	l, ok := a.lists[list]
	if !ok {
		return
	}
	if _, in := l.members[c.ID]; !in {
		l.members[c.ID] = struct{}{}
		c.ListIDs = append(c.ListIDs, list)
	}
}

func (a *Account) leave(c *Contact, list int64) bool {
	l, ok := a.lists[list]
	if !ok {
		return false
	}
	if _, in := l.members[c.ID]; !in {
		return false
	}
	delete(l.members, c.ID)
	c.ListIDs = slices.DeleteFunc(c.ListIDs, func(i int64) bool { return i == list })
	return true
}

func (a *Account) drop(c *Contact) {
	for _, l := range slices.Clone(c.ListIDs) {
		a.leave(c, l)
	}
	for _, u := range uniqueNames {
		a.free(c, u)
	}
	delete(a.contacts, c.Email)
	delete(a.byID, c.ID)
}

// free lets go of a contact's value of a unique attribute.
func (a *Account) free(c *Contact, name string) {
	if v, ok := c.Attributes[name].(string); ok && a.unique[name+"\x00"+v] == c.ID {
		delete(a.unique, name+"\x00"+v)
	}
}

// Holder is the address of the contact that has a telephone number, "" if none has.
func (a *Account) Holder(number string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c, ok := a.byID[a.unique["SMS\x00"+number]]; ok {
		return c.Email
	}
	return ""
}

// Drop deletes a contact behind the API's back.
func (a *Account) Drop(email string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c, ok := a.contacts[strings.ToLower(email)]; ok {
		a.drop(c)
	}
}
