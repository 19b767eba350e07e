package sandbox

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// refusal is an answer that refuses a contact.
type refusal struct {
	code, message string
	duplicates    []string
}

var (
	emailForm = regexp.MustCompile(`^[^@\s]+@[^@\s.]+(\.[^@\s.]+)+$`)
	phoneForm = regexp.MustCompile(`^(\+|00)?[1-9]\d{6,14}$`)
)

// check says whether attributes can be set on the contact of an address; it changes nothing. The API refuses the whole
// upsert for a malformed number, or one that another contact has.
func (a *Account) check(email string, attributes map[string]any, ext string) *refusal {
	if !emailForm.MatchString(email) {
		return &refusal{code: "invalid_parameter", message: "Invalid email address"}
	}
	var owner int64 = -1
	if c, ok := a.contacts[email]; ok {
		owner = c.ID
	}
	values := maps.Clone(attributes)
	if values == nil {
		values = map[string]any{}
	}
	if ext != "" {
		values["EXT_ID"] = ext
	}
	for name := range values {
		if a.attributes[strings.ToUpper(name)] == "transactional" {
			return &refusal{code: "invalid_parameter", message: "Transactional attribute as primary Key is missing"}
		}
	}
	for _, name := range uniqueNames {
		v := fmt.Sprint(values[name])
		if values[name] == nil || v == "" {
			continue
		}
		if name != "EXT_ID" && !phoneForm.MatchString(v) {
			return &refusal{code: "invalid_parameter", message: "Invalid phone number"}
		}
		if other, ok := a.unique[name+"\x00"+number(name, v)]; ok && other != owner {
			return &refusal{
				code: "duplicate_parameter", message: "Unable to update contact, " + name + " is already associated with another Contact",
				duplicates: []string{name},
			}
		}
	}
	return nil
}

// number is the form that the API keeps: digits only.
func number(name, v string) string {
	if name == "EXT_ID" {
		return v
	}
	return strings.TrimPrefix(strings.TrimPrefix(v, "+"), "00")
}

// set applies attributes: unknown ones and values of the wrong type are ignored.
func (a *Account) set(c *Contact, attributes map[string]any) {
	for name, v := range attributes {
		name = strings.ToUpper(name)
		kind, known := a.attributes[name]
		if name == "EXT_ID" {
			kind, known = "text", true
		}
		if !known {
			continue
		}
		if slices.Contains(uniqueNames, name) {
			a.free(c, name)
		}
		if v == nil || v == "" {
			delete(c.Attributes, name)
			continue
		}
		v, ok := typed(kind, v)
		if ok {
			v, ok = a.offered(name, v)
		}
		if !ok {
			continue
		}
		if slices.Contains(uniqueNames, name) {
			s := number(name, fmt.Sprint(v))
			a.unique[name+"\x00"+s] = c.ID
			v = s
		}
		c.Attributes[name] = v
	}
	c.ModifiedAt = a.now()
}

// offered drops what is none of an attribute's options; ok is false if nothing is left.
func (a *Account) offered(name string, v any) (left any, ok bool) {
	options := a.options[name]
	if len(options) == 0 {
		return v, true
	}
	list, many := v.([]any)
	if !many {
		return v, slices.Contains(options, fmt.Sprint(v))
	}
	list = slices.DeleteFunc(slices.Clone(list), func(item any) bool { return !slices.Contains(options, fmt.Sprint(item)) })
	return list, len(list) > 0
}

// typed gives a value the attribute's type; ok is false if it is not of it.
func typed(kind string, v any) (any, bool) {
	switch kind {
	case "float":
		switch v := v.(type) {
		case float64:
			return v, true
		case string:
			f, err := strconv.ParseFloat(v, 64)
			return f, err == nil
		}
		return nil, false
	case "boolean":
		switch v := v.(type) {
		case bool:
			return v, true
		case string:
			switch strings.ToLower(v) {
			case "yes", "true", "1":
				return true, true
			case "no", "false", "0":
				return false, true
			}
		}
		return nil, false
	case "date":
		s, ok := v.(string)
		if !ok {
			return nil, false
		}
		_, err := time.Parse(time.DateOnly, s)
		return s, err == nil
	case "multiple-choice":
		l, ok := v.([]any)
		return l, ok
	case "text":
		switch v := v.(type) {
		case string:
			return v, true
		case float64:
			return strconv.FormatFloat(v, 'f', -1, 64), true
		}
		return nil, false
	}
	return v, true
}

// importRow is one line of an import.
type importRow struct {
	email      string
	attributes map[string]any
}

// runImport applies an import. Rows that the API would refuse go into a report by reason.
func (a *Account) runImport(p *Process, rows []importRow, lists []int64, erase, update bool, lose func(string) bool) {
	rejected := map[string][]string{}
	for _, r := range rows {
		email := strings.ToLower(strings.TrimSpace(r.email))
		if lose != nil && lose(email) {
			a.stats.Lost++
			continue
		}
		attributes := map[string]any{}
		for name, v := range r.attributes {
			if v == "" && !erase {
				continue
			}
			if v == false {
				continue // seen on the live API: jsonBody's false is not applied
			}
			attributes[name] = v
		}
		if f := a.check(email, attributes, ""); f != nil {
			reason := "invalid_emails"
			if len(f.duplicates) > 0 {
				reason = map[string]string{
					"SMS": "duplicate_phone_id", "WHATSAPP": "duplicate_whatsapp_id", "LANDLINE_NUMBER": "duplicate_landline_number_id",
					"EXT_ID": "duplicate_ext_id",
				}[f.duplicates[0]]
			}
			rejected[reason] = append(rejected[reason], email)
			continue
		}
		if _, exists := a.contacts[email]; exists && !update {
			continue
		}
		c := a.ensure(email)
		a.set(c, attributes)
		for _, l := range lists {
			a.join(c, l)
		}
	}
	p.Status = "completed"
	p.Reports = map[string]string{}
	for reason, emails := range rejected {
		path := fmt.Sprintf("/_reports/%d-%s.csv", p.ID, reason)
		a.reports[path] = "EMAIL\n" + strings.Join(emails, "\n") + "\n"
		p.Reports[reason] = a.baseURL + path
	}
}
