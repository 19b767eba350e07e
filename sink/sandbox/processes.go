package sandbox

import (
	"encoding/csv"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

func (s *Server) importContacts(w *recorder, body []byte, f *Fault) {
	var b struct {
		JSON []struct {
			Email      string         `json:"email"`
			Attributes map[string]any `json:"attributes"`
		} `json:"jsonBody"`
		File   *string `json:"fileBody"`
		Lists  []int64 `json:"listIds"`
		Update *bool   `json:"updateExistingContacts"`
		Erase  bool    `json:"emptyContactsAttributes"`
	}
	if len(body) > 10<<20 {
		fail(w, http.StatusRequestEntityTooLarge, "invalid_parameter", "the body is larger than 10 MB")
		return
	}
	if json.Unmarshal(body, &b) != nil {
		fail(w, http.StatusBadRequest, "bad_request", "Input must be a valid JSON object")
		return
	}
	if len(b.Lists) == 0 {
		fail(w, http.StatusBadRequest, "missing_parameter", "listIds or newList is missing")
		return
	}
	if !s.haveLists(w, b.Lists) {
		return
	}
	var rows []importRow
	for _, r := range b.JSON {
		rows = append(rows, importRow{r.Email, r.Attributes})
	}
	if b.File != nil {
		var ok bool
		if rows, ok = parseCSV(*b.File); !ok {
			fail(w, http.StatusBadRequest, "invalid_parameter", "We could not find any valid email or SMS or Contact ID in the file you uploaded")
			return
		}
	}
	if len(rows) == 0 {
		fail(w, http.StatusBadRequest, "missing_parameter", "Pass one of fileBody, jsonBody or fileUrl")
		return
	}
	p := s.queue(rows, b.Lists, b.Erase, b.Update == nil || *b.Update, f)
	reply(w, http.StatusAccepted, map[string]int64{"processId": p.ID})
}

// parseCSV reads a file body: cells parted by ";", a header in upper case with EMAIL in it.
func parseCSV(text string) ([]importRow, bool) {
	r := csv.NewReader(strings.NewReader(text))
	r.Comma, r.FieldsPerRecord, r.LazyQuotes = ';', -1, true
	lines, err := r.ReadAll()
	if err != nil || len(lines) == 0 {
		return nil, false
	}
	email := slices.Index(lines[0], "EMAIL")
	if email < 0 {
		return nil, false
	}
	rows := make([]importRow, 0, len(lines)-1)
	for _, l := range lines[1:] {
		row := importRow{attributes: map[string]any{}}
		for i, cell := range l {
			if i == email {
				row.email = cell
			} else if i < len(lines[0]) {
				row.attributes[lines[0][i]] = cell
			}
		}
		rows = append(rows, row)
	}
	return rows, true
}

// queue starts an import, which runs on whatever becomes of its sender.
func (s *Server) queue(rows []importRow, lists []int64, erase, update bool, f *Fault) *Process {
	p := &Process{name: "IMPORTUSER", emails: make(map[string]struct{}, len(rows))}
	for _, r := range rows {
		p.emails[strings.ToLower(r.email)] = struct{}{}
	}
	s.stats.Imports++
	s.stats.Rows += len(rows)
	took := s.importTime + time.Duration(len(rows))*s.perRow
	var lose func(string) bool
	if f != nil && f.LoseRows > 0 {
		lose = func(string) bool { return s.random() < f.LoseRows }
	}
	took = s.start(p, took, f, func() {
		s.runImport(p, rows, lists, erase, update, lose)
		if f != nil && f.NoReports {
			for _, u := range p.Reports {
				delete(s.reports, strings.TrimPrefix(u, s.baseURL))
			}
		}
	})
	s.stats.Busy += took
	s.stats.MostImports = max(s.stats.MostImports, s.unfinished())
	return p
}

// start begins a process, which runs when its time has come. It returns how long that takes.
func (s *Server) start(p *Process, took time.Duration, f *Fault, run func()) time.Duration {
	s.nextID++
	p.ID, p.Status = s.nextID, "queued"
	s.processes = append(s.processes, p)
	if f != nil && f.ImportTime > 0 {
		took = time.Duration(f.ImportTime) * time.Millisecond
	}
	if f != nil && f.Import == "hang" {
		p.run = run
		return took
	}
	time.AfterFunc(took, func() {
		s.Account.mu.Lock()
		defer s.Account.mu.Unlock()
		if f != nil && f.Import != "" {
			p.Status = f.Import
			return
		}
		run()
	})
	return took
}

// Unhang lets imports that were ordered to hang run now.
func (s *Server) Unhang() {
	s.Account.mu.Lock()
	defer s.Account.mu.Unlock()
	for _, p := range s.processes {
		if p.run != nil && !p.ended() {
			p.run()
		}
	}
}

func processBody(p *Process) map[string]any {
	b := map[string]any{"id": p.ID, "name": p.name, "status": p.Status}
	if p.export != "" {
		b["export_url"] = p.export
	}
	if p.Status == "completed" && p.emails != nil {
		reports := map[string]any{}
		for _, k := range []string{"invalid_emails", "duplicate_contact_id", "duplicate_ext_id", "duplicate_email_id", "duplicate_phone_id", "duplicate_whatsapp_id", "duplicate_landline_number_id"} {
			reports[k] = nil
			if u, ok := p.Reports[k]; ok {
				reports[k] = u
			}
		}
		b["info"] = map[string]any{"import": reports}
	}
	return b
}

func (s *Server) listProcesses(w *recorder, r *http.Request) {
	limit := intOf(r, "limit", 10, 50)
	all := []map[string]any{}
	for i := len(s.processes) - 1; i >= 0 && len(all) < limit; i-- {
		all = append(all, processBody(s.processes[i]))
	}
	reply(w, http.StatusOK, map[string]any{"count": len(s.processes), "processes": all})
}

func (s *Server) getProcess(w *recorder, id string) {
	n, _ := strconv.ParseInt(id, 10, 64)
	for _, p := range s.processes {
		if p.ID == n {
			reply(w, http.StatusOK, processBody(p))
			return
		}
	}
	fail(w, http.StatusNotFound, "document_not_found", "Process not found")
}
