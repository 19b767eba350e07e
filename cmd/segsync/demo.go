package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"segsync/connector"
	"segsync/connector/admin"
	"segsync/connector/oracle"
	"segsync/sink/sandbox"
	"segsync/sink/sendinblue"
)

func newDemo() *cobra.Command {
	var length time.Duration
	var people, rate int
	var verbose bool
	cmd := &cobra.Command{
		Use:   "demo [--for 10s]",
		Short: "Show the main job with everything embedded",
		Long:  "Starts an embedded Kafka, a schema registry, a stand-in for the Sendinblue API and a stream of live Avro events, and follows the lists as they converge. With --for it ends by itself, with the verdict of an oracle that knows the events.",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if people < 1 || people > 1_000_000 || rate < 1 || rate > 10_000 || length < 0 {
				return &exitError{exitUsage, errors.New("--people must be 1 to 1000000, --rate 1 to 10000, --for no less than 0s")}
			}
			return failed(demo(cmd, length, people, rate, verbose))
		},
	}
	cmd.Flags().DurationVar(&length, "for", 0, "let events come for so long, wait for the lists and ask the oracle; 0 stays up until Ctrl-C")
	cmd.Flags().IntVar(&people, "people", 500, "how many people there are")
	cmd.Flags().IntVar(&rate, "rate", 50, "events a second")
	cmd.Flags().BoolVar(&verbose, "verbose", false, "show segsync's log")
	return cmd
}

func demo(cmd *cobra.Command, length time.Duration, people, rate int, verbose bool) error {
	log := zap.NewNop()
	if verbose {
		var err error
		if log, err = newLogger("info"); err != nil {
			return err
		}
	}
	w, err := oracle.NewWorld(oracle.WorldOptions{
		Network: oracle.Loopback{}, Partitions: 3, Log: log,
		Sandbox: sandbox.Options{Latency: 20 * time.Millisecond, ImportTime: 2 * time.Second, Rates: sandbox.Rates{ContactsPerSecond: 60, ContactsPerHour: 216_000, OtherPerHour: 200}},
	})
	if err != nil {
		return err
	}
	defer w.Close()
	metrics := connector.NewMetrics()
	w.Tune = func(c *connector.Config) { c.Metrics = metrics }
	w.Rate = sendinblue.Plans["extended"]
	p, err := w.Start("demo", w.Cutter())
	if err != nil {
		return err
	}
	defer p.Stop()
	ctx := cmd.Context()
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	listening := make(chan net.Addr, 1)
	go func() {
		_ = admin.Serve(serving, "127.0.0.1:0", nil, admin.Handler([]admin.Source{p.Connection}, metrics), func(a net.Addr) { listening <- a })
	}()
	cmd.Printf("Kafka            %s (topic %s)\nschema registry  %s\nSendinblue API   %s (a stand-in)\nadmin            http://%s/status\n\n", w.Brokers()[0], oracle.Topic, w.Registry, w.API, <-listening)
	live(ctx, cmd, w, p, length, people, rate)
	return verdict(ctx, cmd, w, p)
}

// live produces a backlog and then live events, and shows how the lists follow.
func live(ctx context.Context, cmd *cobra.Command, w *oracle.World, p *oracle.Process, length time.Duration, people, rate int) {
	if length > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, length)
		defer cancel()
	}
	backlog := oracle.DefaultShape(time.Now().Add(-time.Hour))
	backlog.People, backlog.Events, backlog.Poison = people, people*3, 0.001
	history := oracle.History(rand.Uint64(), backlog) //nolint:gosec // a demo's people
	if err := w.Produce(ctx, history...); err != nil {
		return
	}
	cmd.Printf("%d events about %d people are in the topic; live ones follow, %d a second\n\n", len(history), people, rate)
	shape := backlog
	shape.Begin, shape.Events, shape.Poison = time.Now(), 1<<17, 0.001
	stream := oracle.History(rand.Uint64(), shape) //nolint:gosec // a demo's people
	tick := time.NewTicker(time.Second / 10)
	defer tick.Stop()
	for n := 0; ; n++ {
		if n%10 == 0 {
			show(cmd, w, p)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		k := min(max(rate/10, 1), len(stream))
		now := time.Now()
		for i := range stream[:k] {
			stream[i].At = now.Add(time.Duration(i) * time.Millisecond)
		}
		if err := w.Produce(ctx, stream[:k]...); err != nil {
			return
		}
		stream = stream[k:]
	}
}

func show(cmd *cobra.Command, w *oracle.World, p *oracle.Process) {
	s := p.Connection.Status()
	n := s.Counters
	cmd.Printf("%s  events %5d  in %4d  out %4d  list 42: %4d  list 43: %4d  pending %4d  calls made %4d, saved %4d\n",
		time.Now().Format(time.TimeOnly), n.Events, n.Upserted, n.Removed, w.Sandbox.Len(42), w.Sandbox.Len(43), s.Pending, n.Calls, n.Saved())
}

// settleWithin bounds how long the demo waits for the lists after the last event.
const settleWithin = 3 * time.Minute

// verdict waits until the lists stand and asks the oracle.
func verdict(ctx context.Context, cmd *cobra.Command, w *oracle.World, p *oracle.Process) error {
	interrupted := ctx.Err() != nil
	end := time.Now().Add(settleWithin)
	if !interrupted {
		cmd.Println("no more events; waiting for the lists")
	}
	for !interrupted && ctx.Err() == nil && len(w.Wrong()) > 0 && time.Now().Before(end) {
		time.Sleep(200 * time.Millisecond)
	}
	show(cmd, w, p)
	s := p.Connection.Status()
	wrong := w.Wrong()
	if interrupted && len(wrong) > 0 {
		cmd.Printf("\ninterrupted: %d contacts were still pending; --for 10s waits for the lists and asks the oracle\n", s.Pending)
		return nil
	}
	cmd.Printf("\nthe oracle: %d contacts wanted in the lists, people wrong %d\n", w.Wanted(), len(wrong))
	cmd.Printf("%d events, %d calls, %d dead letters (undecodable bytes, people without an address, numbers that two people claim: the stream has them all)\n", s.Counters.Events, s.Counters.Calls, s.Counters.DeadLetters)
	if len(wrong) == 0 {
		return nil
	}
	for _, x := range wrong[:min(len(wrong), 10)] {
		cmd.Println("  " + x.String())
	}
	return errors.New(fmt.Sprint(len(wrong), " people are wrong"))
}
