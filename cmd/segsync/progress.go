package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"segsync/connector"
)

// progress shows how far a backfill is: a bar where a person looks on, plain lines elsewhere.
type progress struct {
	out   io.Writer
	id    string // of the command
	bar   *progressbar.ProgressBar
	began time.Time
	shown time.Time
	max   int64
	last  connector.Status
}

// lineEvery is how often a line is written where nobody looks on.
const lineEvery = 2 * time.Second

func newProgress(out io.Writer, id string) *progress {
	p := &progress{out: out, id: id, began: time.Now()}
	if _, people := out.(*terminal); people && term.IsTerminal(int(os.Stderr.Fd())) {
		p.bar = newBar()
	}
	return p
}

// show shows how the connection stands.
func (p *progress) show(s connector.Status) {
	if s.Owns || !p.last.Owns { // who has ended knows no lists any more
		p.last = s
	}
	var b *connector.Backfill
	for i := range s.Backfills {
		if s.Backfills[i].ID == p.id {
			b = &s.Backfills[i]
		}
	}
	if p.bar != nil {
		p.draw(b)
		return
	}
	if time.Since(p.shown) < lineEvery {
		return
	}
	p.shown = time.Now()
	line := fmt.Sprintf("%7d contacts pending, %d calls made", s.Pending, s.Counters.Calls)
	if b != nil {
		line = fmt.Sprintf("%s: %9d of %d records left%s, ", b.Phase, b.Left, b.Total, p.rest(b)) + line
	}
	_, _ = fmt.Fprintln(p.out, line)
}

// rest is how long the reading takes still, at the rate so far.
func (p *progress) rest(b *connector.Backfill) string {
	took := time.Since(b.Began)
	if b.Records == 0 || took < time.Second {
		return ""
	}
	rate := float64(b.Records) / took.Seconds()
	return fmt.Sprintf(" (%.0f a second, %s to go)", rate, time.Duration(float64(b.Left)/rate*float64(time.Second)).Round(time.Second))
}

func (p *progress) draw(b *connector.Backfill) {
	if b == nil {
		p.bar.Describe(fmt.Sprintf("%d contacts pending", p.last.Pending))
		return
	}
	p.bar.Describe(b.Phase)
	if most := int64(b.Records) + b.Left; most > p.max {
		p.max = most
		p.bar.ChangeMax64(most)
	}
	_ = p.bar.Set64(int64(b.Records))
}

func (p *progress) end() {
	if p.bar != nil {
		_ = p.bar.Exit() // else it goes on drawing
		_ = p.bar.Clear()
	}
}
