package sandbox

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// exportContacts writes a list to a file, as it is when the export is asked for; the file is there when it has ended.
func (s *Server) exportContacts(w *recorder, body []byte, f *Fault) {
	var b struct {
		Filter struct {
			Action string `json:"actionForContacts"`
			List   int64  `json:"listId"`
		} `json:"customContactFilter"`
		Attributes   []string `json:"exportAttributes"`
		Mandatory    *bool    `json:"exportMandatoryAttributes"`
		Subscription []string `json:"exportSubscriptionStatus"`
	}
	if json.Unmarshal(body, &b) != nil || b.Filter.Action != "allContacts" {
		fail(w, http.StatusBadRequest, "missing_parameter", "customContactFilter is missing")
		return
	}
	if !s.haveLists(w, []int64{b.Filter.List}) {
		return
	}
	p := &Process{name: "SEARCH_EXPORT_USERS"}
	took := s.exportTime
	file := s.listFile(b.Filter.List, b.Attributes)
	if f != nil && f.LoseRows > 0 {
		file = file[:int(float64(len(file))*(1-f.LoseRows))]
	}
	s.start(p, took, f, func() {
		path := fmt.Sprintf("/_reports/%d-export.csv", p.ID)
		s.reports[path] = file
		p.Status, p.export = "completed", s.baseURL+path
	})
	s.stats.Exports++
	reply(w, http.StatusAccepted, map[string]int64{"processId": p.ID})
}

// listFile is the CSV of a list: EMAIL, the subscription, the attributes asked for.
func (s *Server) listFile(list int64, attributes []string) string {
	var out strings.Builder
	c := csv.NewWriter(&out)
	c.Comma = ';'
	row := append([]string{"EMAIL", "EMAIL_MARKETING"}, attributes...)
	_ = c.Write(row)
	l := s.lists[list]
	for _, id := range slices.Sorted(maps.Keys(l.members)) {
		m := s.byID[id]
		row[0], row[1] = m.Email, "subscribed"
		if m.EmailBlacklisted || slices.Contains(m.Unsubscribed, list) {
			row[1] = "unsubscribed"
		}
		for i, a := range attributes {
			row[2+i] = cell(m.Attributes[a])
		}
		_ = c.Write(row)
	}
	c.Flush()
	return out.String()
}

func cell(v any) string {
	if v == nil {
		return ""
	}
	if f, ok := v.(float64); ok {
		b, _ := json.Marshal(f)
		return string(b)
	}
	return fmt.Sprint(v)
}
