package sandbox

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

func (s *Server) upsert(w *recorder, body []byte) {
	var b struct {
		Email      string         `json:"email"`
		Ext        string         `json:"ext_id"`
		Attributes map[string]any `json:"attributes"`
		Lists      []int64        `json:"listIds"`
		Update     bool           `json:"updateEnabled"`
		Block      *bool          `json:"emailBlacklisted"`
	}
	if json.Unmarshal(body, &b) != nil {
		fail(w, http.StatusBadRequest, "bad_request", "Input must be a valid JSON object")
		return
	}
	email := strings.ToLower(strings.TrimSpace(b.Email))
	if f := s.check(email, b.Attributes, b.Ext); f != nil {
		refuse(w, f)
		return
	}
	if !s.haveLists(w, b.Lists) {
		return
	}
	_, exists := s.contacts[email]
	if exists && !b.Update {
		refuse(w, &refusal{code: "duplicate_parameter", message: "Unable to create contact, email is already associated with another Contact", duplicates: []string{"email"}})
		return
	}
	c := s.ensure(email)
	s.set(c, b.Attributes)
	s.setExt(c, body, b.Ext)
	if b.Block != nil {
		c.EmailBlacklisted = *b.Block
	}
	for _, l := range b.Lists {
		s.join(c, l)
	}
	if exists {
		reply(w, http.StatusNoContent, nil)
		return
	}
	reply(w, http.StatusCreated, map[string]int64{"id": c.ID})
}

func (s *Server) setExt(c *Contact, body []byte, ext string) {
	if strings.Contains(string(body), `"ext_id"`) {
		s.set(c, map[string]any{"EXT_ID": ext})
	}
}

func (s *Server) haveLists(w *recorder, lists []int64) bool {
	for _, l := range lists {
		if _, ok := s.lists[l]; !ok {
			fail(w, http.StatusNotFound, "document_not_found", "List ID does not exist")
			return false
		}
	}
	return true
}

func (s *Server) contactCall(w *recorder, r *http.Request, id string, body []byte) {
	identifier, err := url.QueryUnescape(id)
	if err != nil {
		identifier = id
	}
	c, ok := s.find(identifier, r.URL.Query().Get("identifierType"))
	if !ok {
		fail(w, http.StatusNotFound, "document_not_found", "Contact does not exist")
		return
	}
	switch r.Method {
	case http.MethodGet:
		reply(w, http.StatusOK, struct {
			*Contact
			Statistics struct{} `json:"statistics"`
		}{Contact: c})
	case http.MethodDelete:
		s.drop(c)
		reply(w, http.StatusNoContent, nil)
	case http.MethodPut:
		s.update(w, c, body)
	}
}

func (s *Server) find(identifier, kind string) (*Contact, bool) {
	switch kind {
	case "contact_id":
		id, _ := strconv.ParseInt(identifier, 10, 64)
		c, ok := s.byID[id]
		return c, ok
	case "ext_id", "phone_id", "whatsapp_id", "landline_number_id":
		name := map[string]string{"ext_id": "EXT_ID", "phone_id": "SMS", "whatsapp_id": "WHATSAPP", "landline_number_id": "LANDLINE_NUMBER"}[kind]
		c, ok := s.byID[s.unique[name+"\x00"+number(name, identifier)]]
		return c, ok
	}
	c, ok := s.contacts[strings.ToLower(identifier)]
	return c, ok
}

func (s *Server) update(w *recorder, c *Contact, body []byte) {
	var b struct {
		Ext        string         `json:"ext_id"`
		Attributes map[string]any `json:"attributes"`
		Lists      []int64        `json:"listIds"`
		Unlink     []int64        `json:"unlinkListIds"`
		Block      *bool          `json:"emailBlacklisted"`
	}
	if json.Unmarshal(body, &b) != nil {
		fail(w, http.StatusBadRequest, "bad_request", "Input must be a valid JSON object")
		return
	}
	if f := s.check(c.Email, b.Attributes, b.Ext); f != nil {
		refuse(w, f)
		return
	}
	if !s.haveLists(w, slices.Concat(b.Lists, b.Unlink)) {
		return
	}
	s.set(c, b.Attributes)
	s.setExt(c, body, b.Ext)
	if b.Block != nil {
		c.EmailBlacklisted = *b.Block
	}
	for _, l := range b.Lists {
		s.join(c, l)
	}
	for _, l := range b.Unlink {
		s.leave(c, l)
	}
	reply(w, http.StatusNoContent, nil)
}

func (s *Server) withList(w *recorder, id string, then func(*List)) {
	n, _ := strconv.ParseInt(id, 10, 64)
	l, ok := s.lists[n]
	if !ok {
		fail(w, http.StatusNotFound, "document_not_found", "List ID does not exist")
		return
	}
	then(l)
}

const batchMost = 150

// change adds to a list or removes from it. Addresses are matched as they are stored, in lower case: one in mixed
// case is not found, and a call in which every one fails answers 400.
func (s *Server) change(w *recorder, l *List, body []byte, add bool) {
	var b struct {
		Emails []string `json:"emails"`
		IDs    []int64  `json:"ids"`
		Exts   []string `json:"extIds"`
	}
	if json.Unmarshal(body, &b) != nil || len(b.Emails)+len(b.IDs)+len(b.Exts) == 0 {
		fail(w, http.StatusBadRequest, "missing_parameter", "Pass exactly one of emails, ids or extIds")
		return
	}
	if len(b.Emails) > batchMost {
		fail(w, http.StatusBadRequest, "invalid_parameter", "Maximum 150 emails are allowed")
		return
	}
	success, failure := []string{}, []string{}
	act := func(name string, c *Contact, ok bool) {
		switch {
		case !ok:
			failure = append(failure, name)
		case add:
			if _, in := l.members[c.ID]; in {
				failure = append(failure, name)
				return
			}
			s.join(c, l.ID)
			success = append(success, name)
		case s.leave(c, l.ID):
			success = append(success, name)
		default:
			failure = append(failure, name)
		}
	}
	for _, e := range b.Emails {
		c, ok := s.contacts[e]
		act(e, c, ok)
	}
	for _, id := range b.IDs {
		c, ok := s.byID[id]
		act(strconv.FormatInt(id, 10), c, ok)
	}
	for _, e := range b.Exts {
		c, ok := s.byID[s.unique["EXT_ID\x00"+e]]
		act(e, c, ok)
	}
	if len(success) == 0 {
		message := "Contact already removed from list and/or does not exist"
		if add {
			message = "Contact already in list and/or does not exist"
		}
		fail(w, http.StatusBadRequest, "invalid_parameter", message)
		return
	}
	reply(w, http.StatusCreated, map[string]any{"contacts": map[string]any{"success": success, "failure": failure}})
}

func (s *Server) listAttributes(w *recorder) {
	all := []map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(s.attributes)) {
		kind := s.attributes[name]
		at := map[string]any{"name": name, "category": "normal"}
		switch kind {
		case "calculated", "global":
			at["category"] = kind
		case "transactional":
			at["category"], at["type"] = kind, "text"
		case "category":
			at["category"] = kind
			var all []map[string]any
			for i, o := range s.options[name] {
				all = append(all, map[string]any{"value": i + 1, "label": o})
			}
			at["enumeration"] = all
		case "multiple-choice":
			at["type"], at["multiCategoryOptions"] = kind, s.options[name]
		default:
			at["type"] = kind
		}
		all = append(all, at)
	}
	reply(w, http.StatusOK, map[string]any{"attributes": all})
}

func (s *Server) createAttribute(w *recorder, name string, body []byte) {
	var b struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(body, &b) != nil || b.Type == "" {
		fail(w, http.StatusBadRequest, "missing_parameter", "type is missing")
		return
	}
	s.attributes[strings.ToUpper(name)] = b.Type
	reply(w, http.StatusCreated, nil)
}

func (s *Server) listBody(l *List) map[string]any {
	blocked := 0
	for id := range l.members {
		if s.byID[id].EmailBlacklisted {
			blocked++
		}
	}
	return map[string]any{
		"id": l.ID, "name": l.Name, "folderId": l.Folder, "createdAt": "2020-01-01T00:00:00Z", "dynamicList": l.Dynamic,
		"uniqueSubscribers": len(l.members) - blocked, "totalSubscribers": len(l.members), "totalBlacklisted": blocked,
	}
}

func (s *Server) listLists(w *recorder, r *http.Request) {
	limit, offset := intOf(r, "limit", 10, 50), intOf(r, "offset", 0, 1<<30)
	ids := []int64{}
	for id := range s.lists {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	all := []map[string]any{}
	for _, id := range ids[min(offset, len(ids)):min(offset+limit, len(ids))] {
		b := s.listBody(s.lists[id])
		b["totalSubscribers"] = 0 // as seen on the live API: only the single-list call counts
		delete(b, "createdAt")
		delete(b, "dynamicList")
		all = append(all, b)
	}
	reply(w, http.StatusOK, map[string]any{"count": len(ids), "lists": all})
}

// foldersMost is the highest number of a folder that there is.
const foldersMost = 20

func (s *Server) createList(w *recorder, body []byte) {
	var b struct {
		Name   string `json:"name"`
		Folder int64  `json:"folderId"`
	}
	switch {
	case json.Unmarshal(body, &b) != nil || b.Name == "" || b.Folder == 0:
		fail(w, http.StatusBadRequest, "missing_parameter", "name or folderId is missing")
		return
	case b.Folder > foldersMost:
		fail(w, http.StatusBadRequest, "invalid_parameter", "Folder ID does not exist")
		return
	}
	id := int64(1)
	for n := range s.lists {
		id = max(id, n+1)
	}
	s.makeList(id, b.Name, b.Folder)
	reply(w, http.StatusCreated, map[string]any{"id": id})
}

func (s *Server) members(w *recorder, r *http.Request, l *List) {
	s.page(w, l, intOf(r, "limit", 50, 500), intOf(r, "offset", 0, 1<<30))
}

func (s *Server) page(w *recorder, l *List, limit, offset int) {
	ids := make([]int64, 0, len(l.members))
	for id := range l.members {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	all := []*Contact{}
	for _, id := range ids[min(offset, len(ids)):min(offset+limit, len(ids))] {
		all = append(all, s.byID[id])
	}
	reply(w, http.StatusOK, map[string]any{"count": len(ids), "contacts": all})
}

// listContacts pages through the contacts of a list.
func (s *Server) listContacts(w *recorder, r *http.Request) {
	s.withList(w, r.URL.Query().Get("listIds"), func(l *List) { s.page(w, l, intOf(r, "limit", 50, 1000), intOf(r, "offset", 0, 1<<30)) })
}

func intOf(r *http.Request, name string, standard, most int) int {
	n, err := strconv.Atoi(r.URL.Query().Get(name))
	if err != nil || n < 0 {
		return standard
	}
	return min(n, most)
}

// Control is the handler of the sandbox's own address: POST /faults orders one, DELETE /faults mends all,
// POST /unhang lets hanging imports run, GET /stats, GET /lists/{id}, PUT /contacts/{email}/unsubscribe.
func (s *Server) Control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /faults", func(w http.ResponseWriter, r *http.Request) {
		var f Fault
		d := json.NewDecoder(r.Body)
		d.DisallowUnknownFields()
		if err := d.Decode(&f); err != nil {
			http.Error(w, "the fault is not understood: "+err.Error(), http.StatusBadRequest)
			return
		}
		s.Order(f)
	})
	mux.HandleFunc("DELETE /faults", func(http.ResponseWriter, *http.Request) { s.Mend() })
	mux.HandleFunc("POST /unhang", func(http.ResponseWriter, *http.Request) { s.Unhang() })
	mux.HandleFunc("PUT /contacts/{email}/unsubscribe", func(_ http.ResponseWriter, r *http.Request) { s.Unsubscribe(r.PathValue("email")) })
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(s.Stats()) })
	mux.HandleFunc("GET /lists/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, _ := strconv.ParseInt(r.PathValue("id"), 10, 64)
		_ = json.NewEncoder(w).Encode(s.List(id))
	})
	return mux
}
