package plan

import "segsync/connector/state"

// Route is how a contact's difference is sent. It is decided here, once, when the contact is taken off its queue.
type Route uint8

// The routes.
const (
	Remove Route = iota + 1 // with others, out of one list
	Add                     // with others, into one list
	Upsert                  // alone: created or updated, added
	Update                  // alone: one PUT adds, unlinks and sets
	Import                  // with thousands
	Delete                  // alone, after a look
	Look                    // looks alone
	Later                   // by the next import: none may begin now
)

func (r Route) String() string {
	return [...]string{"none", "remove", "add", "upsert", "update", "import", "delete", "look", "later"}[r]
}

// situation is what a route depends on beside the contact.
type situation struct {
	many    bool // the queue holds more than a handful: bulk calls pay
	alone   bool // bulk calls that held the contact failed as a whole, down to one contact
	imports bool // the backlog is worked off sooner by imports than by single calls, and one can carry the contact
	begin   bool // an import may begin now
}

// choose is the planner's reasons, in one place:
//
//   - who leaves for good and is to be deleted goes alone: the look must come immediately before;
//   - who only leaves goes with others by 150; alone in several lists, one PUT does it;
//   - an address given up is emptied by one PUT;
//   - who is looked at first goes alone, too; of more looks than fit before a write the first go alone;
//   - who must not be created goes by no import and no upsert: one PUT sets a contact that exists, or says that it does not;
//   - who enters goes by an import when that is sooner, after leaving what is to be left: an import takes its time, and
//     takes nobody out. Where none may begin now they wait for it, but for those whose last one failed;
//   - who enters with attributes as they stand there goes with others by 150, or, when nobody else is there, by an
//     upsert, which also settles whether the contact exists;
//   - everybody else goes by an upsert, or by one PUT where lists are left too.
func choose(n *state.Need, s situation) Route {
	imports := s.imports && !n.Barred && !n.Existing
	switch {
	case n.Delete && !n.Writes():
		return Delete
	case !n.Writes() && (len(n.Remove) == 1 || s.many) && !s.alone:
		return Remove
	case !n.Writes(), len(n.Wanted) == 0:
		return Update
	case n.LookOnly:
		return Look
	case len(n.Look) > 0:
		return single(n)
	case imports && len(n.Remove) > 0 && !s.alone && (s.begin || n.Halves == 0):
		return Remove
	case imports && len(n.Remove) == 0 && s.begin:
		return Import
	case imports && len(n.Remove) == 0 && n.Halves == 0:
		return Later
	case n.Known && len(n.Add) > 0 && s.many && !s.alone:
		return Add
	}
	return single(n)
}

// single is a call for one contact: an upsert creates it, a PUT does not, and also unlinks.
func single(n *state.Need) Route {
	if len(n.Remove) > 0 || n.Existing {
		return Update
	}
	return Upsert
}
