package sink

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Attribute is one attribute of a contact: its name in the account and its value as a JSON literal
// ("Ann" with its quotes, 12.5, true, ["a","b"]); the literal "" empties the attribute.
type Attribute struct {
	Name  string
	Value []byte
}

// Empty is the value that empties an attribute.
const Empty = `""`

// Empties says whether sending the attribute empties it.
func (a Attribute) Empties() bool { return string(a.Value) == Empty }

// Hash is a stable fingerprint of attributes sorted by name (64-bit FNV-1a); never 0, which means "not known".
func Hash(attributes []Attribute) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for _, a := range attributes {
		for i := range len(a.Name) {
			h = (h ^ uint64(a.Name[i])) * prime
		}
		h = (h ^ 0xff) * prime
		for _, b := range a.Value {
			h = (h ^ uint64(b)) * prime
		}
		h = (h ^ 0xfe) * prime
	}
	return max(h, 1)
}

// Contact is one address of a request and what is set on it.
type Contact struct {
	Address    string
	Attributes []Attribute // sorted by name; none in calls that carry addresses only
}

// Kind is a way to write contacts.
type Kind uint8

// The ways to write. Add and Remove carry addresses of contacts that exist, for one list; Upsert, Update and Delete
// one contact; Import many with their attributes, for a set of lists. Look writes nothing: it makes the looks that are
// too many to be made together with a write.
const (
	Upsert Kind = iota + 1
	Update
	Add
	Remove
	Import
	Delete
	Look
)

func (k Kind) String() string {
	return [...]string{"none", "upsert", "update", "add", "remove", "import", "delete", "look"}[k]
}

// Purpose is what a call is for.
type Purpose string

// The purposes of calls.
const (
	ToSend   Purpose = "send"   // something that is wanted
	ToResend Purpose = "resend" // what had no answer
	ToLook   Purpose = "look"   // at a contact before a write, or at imports and exports under way
	ToAudit  Purpose = "audit"  // a list
	ToAsk    Purpose = "ask"    // for a list's name and size, for attributes, for the account
)

// Call is a call that was made.
type Call struct {
	Endpoint string // with its method, without identifiers
	Kind     Kind   // of a write; 0: it reads
	Purpose  Purpose
	Status   int           // 0: no answer
	Took     time.Duration // to its answer, or its end without one
}

// Request is one write. Its contacts want the same lists.
type Request struct {
	Kind     Kind
	Lists    []int64 // to be in, sorted
	Unlink   []int64 // to be out of (Update), or the one list of a Remove
	Contacts []Contact
	Look     []string // addresses to look at immediately before the write: if one is blocked, nothing is written
	Erase    bool     // an import whose empty values empty attributes
	Again    bool     // it says again what had no answer; for the count of calls
}

// Calls is how many calls of the budget the request takes.
func (r *Request) Calls() int {
	if r.Kind == Look {
		return len(r.Look)
	}
	return 1 + len(r.Look)
}

// Verdict is what an answer means for a contact. The zero verdict is Retry: an outcome that nobody set never
// counts as delivered.
type Verdict uint8

// The verdicts; see Outcome for what goes with each.
const (
	Retry Verdict = iota
	Applied
	Accepted // of an import: taken, not done; Answer.Process names its process
	Reject
	Halt
	Blocked // not written: a contact looked at before is blocked or unsubscribed; Outcome.Address names it
)

func (v Verdict) String() string {
	return [...]string{"retry", "applied", "accepted", "reject", "halt", "blocked"}[v]
}

// Outcome is a verdict with its reason. Messages carry no address, value or key.
type Outcome struct {
	Verdict   Verdict
	Certain   bool          // of a Retry: it certainly was not applied; else it may yet be
	Busy      bool          // of a Retry: the call budget was used up
	Alone     bool          // of a Retry: the destination as a whole is well (it is this request that fails)
	Split     bool          // of a Reject: a bulk call failed as a whole with no culprit named
	Absent    bool          // of an Applied: the contact does not exist, so it is in no list; of a Retry: it may not
	Unlinked  bool          // of a Delete: the contact is blocked, so it only left its lists
	List      int64         // of a Halt: it concerns this list only; 0 the whole account
	Wait      time.Duration // of a Retry: not before this
	Code      string        // the API's code, or segsync's own word for it
	Message   string
	Mend      string // of a Halt: what to do about it
	Attribute string // of a Reject: the attribute that was refused
	Address   string // of a Blocked
}

// Answer is what became of a request: one outcome per contact, or one for all.
type Answer struct {
	Outcomes []Outcome
	Process  int64 // of an accepted import
}

// Of is the outcome of the i-th contact.
func (a Answer) Of(i int) Outcome {
	switch {
	case len(a.Outcomes) == 1:
		return a.Outcomes[0]
	case i < len(a.Outcomes):
		return a.Outcomes[i]
	}
	return Outcome{}
}

// All is an answer with one outcome for every contact.
func All(o Outcome) Answer { return Answer{Outcomes: []Outcome{o}} }

// Process is the destination's work on an import or an export.
type Process struct {
	ID      int64
	Done    bool     // it has ended
	Failed  bool     // it ended without having been carried out
	Reports []Report // of a completed import
	Export  bool     // it is an export
	File    string   // of a completed export: the address of its file
}

// Report names contacts that an import did not carry out, for one reason.
type Report struct{ Reason, Address string }

// Limits are what table and planner must know of the destination.
type Limits struct {
	Batch       int // contacts in an add or a remove
	ImportBytes int // bytes of rows in an import
	// Unique are the attributes of which no two contacts of the account may have the same value.
	Unique []string
	// PerSecond is how many calls our share of the budget allows in the long run.
	PerSecond float64
	// Looks is how many looks fit before a write: all calls of a request are granted together.
	Looks int
	// LooksMost is how many looks at what is under way may be made in a row, LookEvery how often one in the long run.
	LooksMost int
	LookEvery time.Duration
}

// AttributeType is how the account types an attribute. Unknown types are open strings.
type AttributeType string

// Those that need a form of their own.
const (
	Text           AttributeType = "text"
	Date           AttributeType = "date"
	Float          AttributeType = "float"
	Boolean        AttributeType = "boolean"
	Category       AttributeType = "category"
	MultipleChoice AttributeType = "multiple-choice"
	// No contact can be given these: the account computes them, or they belong to orders.
	Calculated    AttributeType = "calculated"
	Global        AttributeType = "global"
	Transactional AttributeType = "transactional"
)

// AttributeInfo is what the account says of an attribute.
type AttributeInfo struct {
	Type AttributeType `json:"type"`
	// Options are the values that a category or a multiple choice takes; others are dropped in silence. Empty: not told.
	Options []string `json:"options,omitempty"`
}

// Equal says whether both are the same, in the same order of options.
func (a AttributeInfo) Equal(b AttributeInfo) bool {
	return a.Type == b.Type && slices.Equal(a.Options, b.Options)
}

// Owner is whose an account is: ID tells two accounts apart, Name is for people.
type Owner struct{ ID, Name string }

// ListInfo is what the account says of a list.
type ListInfo struct {
	ID       int64
	Name     string
	Folder   int64 // that it lies in; 0: not told
	Contacts int64
	Dynamic  bool // its members follow from a condition: nobody can be added or removed
}

// Listed is a contact of a list, as the destination tells of it.
type Listed struct {
	Address    string
	Blocked    bool              // or unsubscribed
	Attributes map[string]string // those that were told, as text
}

// ErrNoRoom says that the call budget has no room now.
var ErrNoRoom = errors.New("no room in the call budget")

// Budget is the account's budget of calls, as far as it is ours.
type Budget interface {
	// Reserve takes calls from the budget, or says when to ask again.
	Reserve(calls int) (ok bool, again time.Time)
	// Unreserve gives reserved calls back that were not made.
	Unreserve(calls int)
	// Rest makes no call for a second: a predecessor may have used this one up.
	Rest()
}

// Writer writes contacts. It never repeats a call.
type Writer interface {
	// Row says how an import would carry the contact: contacts of one group may share an import, whose body the
	// contact lengthens by size bytes; ok is false if an import cannot carry it faithfully. erase tells that the
	// group's empty values are meant to empty.
	Row(c *Contact) (group string, size int, erase, ok bool)
	// Send makes the call, with reserved calls of the budget.
	Send(ctx context.Context, r *Request) Answer
}

// Reader reads what the account holds. Errors are an *OutcomeError where the destination gave a verdict.
type Reader interface {
	// Processes looks at all recent imports and exports; ErrNoRoom if the scarce budget has no room.
	Processes(ctx context.Context) ([]Process, error)
	// Process looks at one.
	Process(ctx context.Context, id int64) (Process, error)
	// Report lists the addresses that a report of an import names, and what it means for them.
	Report(ctx context.Context, r Report) (named []string, means Outcome, err error)
	// List asks for a list. Of one that is gone the error's outcome is the halt that a write would bring.
	List(ctx context.Context, id int64) (ListInfo, error)
	// Export begins to write a list with attributes of its contacts to a file, and names the process.
	Export(ctx context.Context, list int64, attributes []string) (process int64, err error)
	// Exported reads the file of an export, contact by contact. What is handed to each is valid during the call.
	Exported(ctx context.Context, file string, attributes []string, each func(*Listed)) error
	// Members does the same without an export, by many calls. Under change, pages can miss or repeat contacts.
	Members(ctx context.Context, list int64, attributes []string, each func(*Listed)) error
	// Carries says whether an attribute that was sent is what a listing tells of it.
	Carries(sent Attribute, told string) bool
	// Lookup says whether a contact is blocked or unsubscribed, and in which lists it is. One that does not exist is neither
	// blocked nor in any.
	Lookup(ctx context.Context, address string) (blocked bool, lists []int64, err error)
	// Attributes are the account's, by name, with those among them that no contact can be given.
	Attributes(ctx context.Context) (map[string]AttributeInfo, error)
}

// Destination is one account. Its methods may be called at once.
type Destination interface {
	Budget
	Writer
	Reader
}

// OutcomeError is a read that failed, with the verdict on it.
type OutcomeError struct{ Outcome Outcome }

func (e *OutcomeError) Error() string {
	if e.Outcome.Code == "" {
		return e.Outcome.Message
	}
	return e.Outcome.Code + ": " + e.Outcome.Message
}
