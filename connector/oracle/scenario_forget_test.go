package oracle

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"segsync/connector"
	"segsync/connector/commands"
	"segsync/sink/sandbox"
)

// held says whether a row that stands holds an address.
func (s *scene) held(address string) bool {
	last := map[string][]byte{}
	for _, r := range s.rows() {
		last[string(r.Key)] = r.Value
	}
	for key, row := range last {
		if row != nil && (key == "c/"+address || bytes.Contains(row, []byte(address))) {
			return true
		}
	}
	return false
}

// An export that was taken out of the configuration leaves its people where they are. It can be emptied, and forgotten, whoever
// owns the connection; what others ask for stays, and what is read again does not bring back what was forgotten.
func TestForgetOneOfSeveralExports(t *testing.T) {
	for name, empty := range map[string]bool{"emptied": true, "as it is": false} {
		t.Run(name, func(t *testing.T) {
			storm(t, func(s *scene) {
				both := s.Exports
				s.begin()
				s.enter("P", "vip", x)
				s.enter("Q", "gold", y)
				s.enter("R", "news", z)
				s.list(43, 10*time.Minute, y, z)
				s.outcome(s.give(commands.Forget, "export-2"), commands.Refused, "has the export still")
				s.stop()
				s.Reconfigure(slices.Clone(both[:1]))
				s.begin()
				s.list(42, 20*time.Minute, x, y)
				s.list(43, 0, y, z)
				s.outcome(s.give(commands.Forget, "export-3"), commands.Refused, "that are not configured: export-2")
				left := []string{y, z}
				if empty {
					s.outcome(s.give(commands.Pause, ""), commands.Done, "paused")
					s.outcome(s.order(commands.Command{Kind: commands.Forget, Export: "export-2", Empty: true}), commands.Done, "2 people leave list 43")
					s.outcome(s.give(commands.Forget, "export-2"), commands.Refused, "2 people are to leave list 43 yet")
					s.outcome(s.give(commands.Resume, ""), commands.Done, "resumed")
					s.kill()
					s.list(43, 20*time.Minute)
					left = nil
				}
				for done := false; !done; { // not before the owner knows that they have left
					time.Sleep(4 * time.Minute)
					g := s.give(commands.Forget, "export-2")
					time.Sleep(100 * time.Millisecond)
					s.kill()
					done = s.outcome(g, "").State == commands.Done
				}
				s.outcome(s.give(commands.Forget, "export-2"), commands.Refused, "nothing is held of an export export-2")
				s.until("the checkpoint", time.Minute, func() bool { return !s.held(z) })
				s.outcome(s.again(commands.Range{}), commands.Done, "records read")
				s.list(42, 10*time.Minute, x, y)
				if s.list(43, 0, left...); s.held(z) || !s.held(y) {
					s.t.Error("what was forgotten has come back, or others have gone")
				}
				s.stop()
				s.Reconfigure(both)
				s.begin()
				s.list(43, 20*time.Minute, y, z)
				s.converge(s.t, 10*time.Minute)
			})
		})
	}
}

// A list that another export feeds is not emptied, and what was delivered there stays known.
func TestForgetAnExportWhoseListIsFed(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		s.enter("P", "vip", x)
		s.enter("R", "news", z)
		s.list(43, 10*time.Minute, z)
		s.stop()
		s.Reconfigure([]Export{{List: 43, Segments: []string{"news", "vip"}, Attributes: []string{"FIRSTNAME"}}}) // export-1, and export-2 is gone
		s.begin()
		s.list(43, 30*time.Minute, x, z)
		s.list(42, 30*time.Minute) // export-1 feeds another list
		s.outcome(s.order(commands.Command{Kind: commands.Forget, Export: "export-2", Empty: true}), commands.Refused, "export export-1 feeds list 43")
		s.outcome(s.give(commands.Forget, "export-2"), commands.Done, "of 0 contacts, 0 memberships")
		s.noCalls(func() { s.outcome(s.again(commands.Range{}), commands.Done, "records read") })
		s.exit("R", "news")
		s.list(43, 10*time.Minute, x)
	})
}

// An export is forgotten only when no import into its list is under way; then all of it is.
func TestForgetWhileAnImportIsUnderWay(t *testing.T) {
	for _, empty := range []bool{false, true} {
		t.Run(fmt.Sprint("empty=", empty), func(t *testing.T) {
			play(t, func(s *scene) {
				both := s.Exports
				s.Sandbox.Order(sandbox.Fault{Endpoint: "/contacts/import", ImportTime: 600_000})
				s.past = true
				s.enterAll("c", "news", 800)
				s.begin()
				s.until("an import is under way", 10*time.Minute, func() bool { return s.Sandbox.Unfinished() > 0 })
				s.stop()
				s.Reconfigure(slices.Clone(both[:1]))
				s.begin()
				forget := func(empty bool) {
					s.outcome(s.order(commands.Command{Kind: commands.Forget, Export: "export-2", Empty: empty}), commands.Refused, "hold 800 contacts of list 43")
					s.until("it is carried out", time.Hour, func() bool {
						time.Sleep(10 * time.Minute)
						return s.outcome(s.order(commands.Command{Kind: commands.Forget, Export: "export-2", Empty: empty}), "").State == commands.Done
					})
				}
				forget(empty)
				if empty {
					s.list(43, time.Hour)
					s.until("it is forgotten", 2*time.Hour, func() bool {
						time.Sleep(10 * time.Minute)
						return s.outcome(s.give(commands.Forget, "export-2"), "").State == commands.Done
					})
				}
				s.until("nothing is held", 10*time.Minute, func() bool { return !s.held("c7@example.com") && !s.held("c799@example.com") })
			})
		})
	}
}

// A list that was deleted in the account is empty.
func TestForgetAnExportWhoseListIsGone(t *testing.T) {
	play(t, func(s *scene) {
		both := s.Exports
		s.begin()
		s.enter("R", "news", z)
		s.list(43, 10*time.Minute, z)
		s.stop()
		s.Sandbox.RemoveList(43)
		s.Reconfigure(slices.Clone(both[:1]))
		s.begin()
		s.outcome(s.order(commands.Command{Kind: commands.Forget, Export: "export-2", Empty: true}), commands.Done, "1 people leave")
		s.until("it is told", 10*time.Minute, func() bool { return s.halted("list_gone") })
		s.outcome(s.give(commands.Forget, "export-2"), commands.Done, "forgotten")
	})
}

// What another export needs that is not configured either stays: it may come back when its history is gone.
func TestForgetLeavesOtherRemovedExportsAlone(t *testing.T) {
	play(t, func(s *scene) {
		three := append(slices.Clone(s.Exports), Export{List: SpareList, Segments: []string{"news"}, Attributes: []string{"FIRSTNAME"}})
		s.Reconfigure(three)
		s.begin()
		s.enter("R", "news", z)
		s.list(SpareList, 10*time.Minute, z)
		s.stop()
		s.Reconfigure(slices.Clone(three[:1]))
		s.begin()
		s.outcome(s.give(commands.Forget, "export-2"), commands.Done, "forgotten")
		time.Sleep(time.Minute)
		s.stop()
		s.admin(func(ctx context.Context, adm *kadm.Client) error {
			offsets := kadm.Offsets{}
			for p := range s.parts {
				offsets.Add(kadm.Offset{Topic: Topic, Partition: p, At: s.Cluster.PartitionInfo(Topic, p).HighWatermark})
			}
			_, err := adm.DeleteRecords(ctx, offsets)
			return err
		})
		s.Sandbox.AddList(45)
		s.Reconfigure([]Export{three[0], {List: 45, Segments: []string{"none"}}, three[2]}) // export-3 comes back
		s.begin()
		s.stays(SpareList, z)
		clear(s.Truth.people)
	})
}

// An owner's export is named with its owner; while it is configured it is not forgotten.
func TestForgetAnOwnersExport(t *testing.T) {
	play(t, func(s *scene) {
		both := s.Exports
		s.Tune = func(c *connector.Config) {
			if len(c.Exports) > 1 {
				c.Exports[1].Owner = "crm"
			}
		}
		s.begin()
		s.enter("R", "news", z)
		s.list(43, 10*time.Minute, z)
		s.outcome(s.give(commands.Forget, "crm/export-2"), commands.Refused, "has the export still")
		s.stop()
		s.Reconfigure(slices.Clone(both[:1]))
		s.begin()
		s.outcome(s.give(commands.Forget, "export-2"), commands.Refused, "that are not configured: crm/export-2")
		s.outcome(s.give(commands.Forget, "crm/export-2"), commands.Done, "of 1 contacts")
	})
}
