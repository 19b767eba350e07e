package connector

import (
	"encoding/hex"
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"

	"segsync/connector/state"
)

// Rows of the connection itself, below k/ in the changelog.
const (
	accountKey = "account"
	rewindKey  = "rewind/"
)

func sourceKey(name string) string  { return "source/" + name }
func exportKey(name string) string  { return "export/" + name }
func retiredKey(list int64) string  { return "retired/" + strconv.FormatInt(list, 10) }
func acceptKey(id [16]byte) string  { return "accepted/" + hex.EncodeToString(id[:]) }
func rewindKeyOf(src string) string { return rewindKey + src }

// builtExport is what the table was built for: a list that an export no longer feeds is retired, its people leave
// through the guard.
type builtExport struct {
	List     int64    `json:"list"`
	Source   string   `json:"source"`
	Segments []string `json:"segments"`
}

// builtSource is a source that has been read from its start, for these segments.
type builtSource struct {
	Segments []string `json:"segments"`
}

// configure compares the restored rows with the configuration, before the table is made ready: lists that moved are
// retired, sources with new segments are read again from their start. Under the lock.
func (e *engine) configure(now time.Time) {
	fed := map[int64]bool{}
	for _, x := range e.cfg.Exports {
		fed[x.List] = true
	}
	for _, x := range e.cfg.Exports {
		var was builtExport
		if row := e.table.Meta(exportKey(x.Name)); row != nil && json.Unmarshal(row, &was) == nil && was.List != x.List && !fed[was.List] {
			e.log.Info("the list of an export changed: people leave the old one, through the guard", zap.String("export", x.Name), zap.Int64("from", was.List), zap.Int64("to", x.List))
			e.table.SetMeta(retiredKey(was.List), state.EncodeTime(now))
		}
		row, _ := json.Marshal(builtExport{x.List, e.cfg.Sources[x.Source].Name, x.Segments})
		if string(row) != string(e.table.Meta(exportKey(x.Name))) {
			e.table.SetMeta(exportKey(x.Name), row)
		}
	}
	var retired []int64
	for _, k := range e.table.MetaKeys("retired/") {
		if l, err := strconv.ParseInt(k[len("retired/"):], 10, 64); err == nil {
			if fed[l] {
				e.table.SetMeta(k, nil)
				continue
			}
			retired = append(retired, l)
		}
	}
	e.table.Retire(retired)
	for s := range e.cfg.Sources {
		src := &e.cfg.Sources[s]
		var was builtSource
		row := e.table.Meta(sourceKey(src.Name))
		if row == nil || json.Unmarshal(row, &was) != nil {
			continue
		}
		for _, g := range src.Spec.Segments {
			if !slices.Contains(was.Segments, g) {
				e.log.Info("a source has a new segment: it is read again from its start", zap.String("source", src.Name))
				e.rereads = append(e.rereads, s)
				break
			}
		}
	}
}

// sourceRow says what a source has been read for.
func (e *engine) sourceRow(s int) []byte {
	segments := slices.Clone(e.cfg.Sources[s].Spec.Segments)
	var was builtSource
	if row := e.table.Meta(sourceKey(e.cfg.Sources[s].Name)); row != nil && json.Unmarshal(row, &was) == nil {
		for _, g := range was.Segments { // its memberships are still in the table, as old as they are
			if !slices.Contains(segments, g) && slices.Contains(e.cfg.Sources[s].Spec.Segments, g) {
				segments = append(segments, g)
			}
		}
	}
	slices.Sort(segments)
	row, _ := json.Marshal(builtSource{segments})
	return row
}

func matches(pattern, topic string) bool {
	re, err := regexp.Compile(pattern)
	return err == nil && re.MatchString(topic)
}
