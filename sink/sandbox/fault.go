package sandbox

import (
	"strings"
	"time"
)

// Fault is an order to fail calls. It strikes Count matching calls (0: one; negative: until removed).
type Fault struct {
	Method   string `json:"method,omitempty"`   // "" any
	Endpoint string `json:"endpoint,omitempty"` // a prefix of the path below /v3, "" any
	Address  string `json:"address,omitempty"`  // only calls that name it
	Count    int    `json:"count,omitempty"`
	// Chance strikes a matching call with this probability only (0: always).
	Chance float64 `json:"chance,omitempty"`

	Status int               `json:"status,omitempty"` // answer with this instead of carrying the call out
	Body   string            `json:"body,omitempty"`
	Header map[string]string `json:"header,omitempty"`
	// DelayMillis before the call is carried out, AnswerMillis from then to its answer.
	DelayMillis  int `json:"delay_ms,omitempty"`
	AnswerMillis int `json:"answer_ms,omitempty"`
	// DropAfter carries the call out and cuts the connection instead of answering; LateMillis cuts it at once and
	// carries the call out later.
	DropAfter  bool `json:"drop_after,omitempty"`
	LateMillis int  `json:"late_ms,omitempty"`
	// Hang keeps the connection open without an answer, and does nothing.
	Hang bool `json:"hang,omitempty"`
	// Of an import or an export: its end ("failed", "cancelled", "hang"), and a share of its rows that are lost without a
	// report.
	Import     string  `json:"import,omitempty"`
	LoseRows   float64 `json:"lose_rows,omitempty"`
	NoReports  bool    `json:"no_reports,omitempty"` // reports cannot be fetched
	ImportTime int     `json:"import_ms,omitempty"`  // how long it, or an export, takes

	struck int
}

// strike returns the first fault that a call meets, and counts it.
func (a *Account) strike(method, path string, body []byte, random func() float64) *Fault {
	for i, f := range a.faults {
		if f.Method != "" && f.Method != method || !strings.HasPrefix(path, f.Endpoint) ||
			f.Address != "" && !strings.Contains(path, f.Address) && !strings.Contains(string(body), f.Address) {
			continue
		}
		if f.Chance > 0 && random() >= f.Chance {
			continue
		}
		f.struck++
		if f.Count >= 0 && f.struck >= max(f.Count, 1) {
			a.faults = append(a.faults[:i:i], a.faults[i+1:]...)
		}
		return f
	}
	return nil
}

// Order adds a fault.
func (a *Account) Order(f Fault) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.faults = append(a.faults, &f)
}

// Mend removes all faults.
func (a *Account) Mend() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.faults = nil
}

// Rates are the account's limits; 0 is none.
type Rates struct {
	ContactsPerSecond, ContactsPerHour, OtherPerHour int
}

// rates count calls in fixed windows, as the headers of the API suggest.
type rates struct {
	Rates
	second, hour, other counter
}

type counter struct {
	start time.Time
	n     int
}

func (c *counter) take(limit int, span time.Duration, now time.Time) (remaining int, reset time.Duration, ok bool) {
	if now.Sub(c.start) >= span {
		c.start, c.n = now.Truncate(span), 0
	}
	reset = span - now.Sub(c.start)
	if limit == 0 {
		return 1 << 20, reset, true
	}
	c.n++
	return max(0, limit-c.n), reset, c.n <= limit
}
