package oracle

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"segsync/connector"
	"segsync/sink/sandbox"
)

// second begins another replica.
func (s *scene) second(tune ...func(*connector.Config)) *Process {
	s.t.Helper()
	p, err := s.Start("b", s.Cutter(), tune...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { p.Kill(); p.Wait() })
	return p
}

func running(p *Process) bool { return p.Connection.Status().State == "running" }

// S11: a standby's coming and going disturbs nothing, and takes over when the owner cannot be reached.
func TestS11OneOwnerWhoeverComesAndGoes(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		s.enter("P", "vip", x)
		s.list(42, time.Minute, x)
		reads := s.status().Restored
		for range 3 {
			b := s.second()
			time.Sleep(5 * time.Second)
			if running(b) || !running(s.p) {
				s.t.Fatal("a standby's coming moved the ownership")
			}
			b.Stop()
			time.Sleep(5 * time.Second)
			if !running(s.p) || s.status().Restored != reads {
				s.t.Fatal("a standby's going disturbed the owner")
			}
		}
		b := s.second()
		time.Sleep(5 * time.Second)
		s.p.Dialer.Refuse(time.Minute)
		s.enter("Q", "vip", y)
		s.until("the standby takes over", 30*time.Second, func() bool { return running(b) })
		if running(s.p) {
			s.t.Error("two own the connection")
		}
		s.stays(42, x, y)
		if running(s.p) == running(b) {
			s.t.Error("not exactly one owns the connection in the end")
		}
		b.Stop()
	})
}

// S22: an owner that is frozen between a checkpoint and its requests sends none of them when it wakes, for another has
// gone on meanwhile. What it does first when it wakes is a matter of moments: it is woken several times.
func TestS22AFrozenOwnerSendsNothingWhenItWakes(t *testing.T) {
	for i := range 8 {
		t.Run(fmt.Sprint(i), func(t *testing.T) { play(t, wake) })
	}
}

func wake(s *scene) {
	s.begin()
	s.enter("Q", "vip", y)
	s.list(42, time.Minute, y)
	b := s.second()
	time.Sleep(5 * time.Second)
	s.p.Dialer.Order(Snap{Match: KafkaRequest(int16(kmsg.EndTxn)), Answered: true, Freezes: 40 * time.Second})
	s.enter("P", "vip", x)
	s.until("the standby takes over", 30*time.Second, func() bool { return running(b) })
	s.exit("P", "vip")
	s.list(42, 10*time.Second, y)
	time.Sleep(time.Minute)
	s.list(42, 0, y)
	if running(s.p) {
		s.t.Error("two own the connection")
	}
	s.stays(42, y)
	b.Stop()
}

// S37: rows, requests and offsets never part, at whatever call a life ends.
func TestS37AKillAtEveryCall(t *testing.T) {
	ends := map[string]func([]byte) bool{"a write of the API": Write}
	for _, key := range kafkaCalls {
		ends[key.Name()] = KafkaRequest(int16(key))
	}
	n := 0
	for name, match := range ends {
		if n++; n%slower != 0 {
			continue
		}
		for _, answered := range []bool{false, true} {
			for _, restoring := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, answered=%v, restoring=%v", name, answered, restoring), func(t *testing.T) {
					storm(t, func(s *scene) {
						s.begin()
						s.enter("P", "vip", x)
						s.list(42, time.Minute, x)
						time.Sleep(2 * time.Second)
						if restoring { // the next life ends
							s.kill()
						}
						s.life().Dialer.Order(Snap{Match: match, Answered: answered, Dies: true})
						s.exit("P", "vip")
						s.enter("Q", "vip", y)
						s.exit("R", "gold") // by a dead letter: nobody knows an address
						time.Sleep(10 * time.Second)
						s.kill()
						s.stays(42, y)
					})
				})
			}
		}
	}
}

// S47: a rolling deploy whose new configuration reads one topic more: never two engines, and everything is read.
func TestS47ARollingDeployThatAddsATopic(t *testing.T) {
	const more = "cdp.more"
	play(t, func(s *scene) {
		if err := s.Cluster.CreateTopic(more, 3, nil); err != nil {
			s.t.Fatal(err)
		}
		s.begin()
		s.enter("P", "vip", x)
		s.list(42, time.Minute, x)
		b := s.second(func(c *connector.Config) { c.Sources[0].Topics = append(c.Sources[0].Topics, more) })
		for range 30 {
			time.Sleep(time.Second)
			if running(s.p) && running(b) {
				s.t.Fatal("two engines")
			}
		}
		s.p.Stop()
		s.p = nil
		s.until("the new one owns it", time.Minute, func() bool { return running(b) })
		s.topic = more
		s.enter("Q", "vip", y)
		s.stays(42, x, y)
		if n := b.Connection.Status().Restored; n == 0 {
			s.t.Error("nothing was restored")
		}
		b.Stop()
	})
}

// S16: a bulk call that keeps failing is bisected down to the one that it fails for, and everyone else goes on.
func TestS16ABulkCallThatKeepsFailingIsBisected(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		var all []string
		for i := range 40 {
			address := fmt.Sprintf("p%d@example.com", i)
			all = append(all, address)
			s.enter(fmt.Sprint("p", i), "vip", address)
		}
		s.list(42, 5*time.Minute, all...)
		s.Sandbox.Order(sandbox.Fault{Status: 400, Body: `{"code":"invalid_parameter","message":"odd"}`, Endpoint: "/contacts/lists", Address: all[7], Count: -1})
		for i := range 40 {
			s.exit(fmt.Sprint("p", i), "vip")
		}
		s.list(42, 10*time.Minute, all[7])
	})
}

// Nothing of an engine is left when it has ended: a bubble that holds a goroutine never ends.
func TestNothingIsLeftOfAnEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sandbox.Options{Latency: 20 * time.Millisecond})
		for i := range 10 {
			p := w.start(t, "a")
			if err := w.Produce(t.Context(), Event{Person: fmt.Sprint(i), Segment: "vip", In: true, At: time.Now(), Partition: -1, Profile: &Profile{Email: fmt.Sprintf("p%d@example.com", i)}}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(i) * 100 * time.Millisecond)
			if i%2 == 0 {
				p.Kill()
				p.Wait()
			} else {
				p.Stop()
			}
		}
	})
}

// A life whose Kafka goes away while it takes over can be ended all the same.
func TestATakeOverCanBeEndedWithoutKafka(t *testing.T) {
	play(t, func(s *scene) {
		c := s.Cutter()
		c.Order(Snap{Match: KafkaRequest(int16(kmsg.Produce)), Answered: true}) // of the sentinel: it may have been taken
		p, err := s.Start("a", c)
		if err != nil {
			s.t.Fatal(err)
		}
		s.until("it takes over", time.Minute, func() bool { return c.Struck() > 0 })
		c.Refuse(24 * time.Hour)
		began := time.Now()
		p.Stop()
		if d := time.Since(began); d > 5*time.Minute {
			s.t.Errorf("it took %s", d)
		}
	})
}

// A checkpoint that Kafka refuses is not made again at once, for ever.
func TestARefusedCheckpointRests(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		s.enter("P", "vip", x)
		s.list(42, time.Minute, x)
		f := s.Cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "segsync-demo-table", Err: kerr.MessageTooLarge, Count: -1})
		s.enter("Q", "vip", y)
		time.Sleep(time.Minute)
		if n := f.Hits(); n == 0 || n > 40 {
			s.t.Errorf("it was tried %d times in a minute", n)
		}
		s.list(42, 0, x)
		f.Remove()
		s.list(42, time.Minute, x, y)
	})
}

// Promise 1: no request runs ahead of its announcement: of one whose checkpoint did not come to be, the API sees nothing.
func TestNoRequestIsSentBeforeItsAnnouncement(t *testing.T) {
	play(t, func(s *scene) {
		s.begin()
		s.enter("P", "vip", x)
		s.list(42, time.Minute, x)
		time.Sleep(2 * time.Second)
		s.p.Dialer.Order(Snap{Match: KafkaRequest(int16(kmsg.EndTxn)), Dies: true})
		s.enter("Q", "vip", y)
		time.Sleep(10 * time.Second)
		if s.p.Dialer.Struck() == 0 {
			s.t.Fatal("no checkpoint was made")
		}
		if _, ok := s.Sandbox.Contact(y); ok {
			s.t.Error("the request was sent")
		}
		s.kill()
		s.list(42, time.Minute, x, y)
	})
}
