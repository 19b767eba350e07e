package mapping

// scope is what an expression sees of a record: cells for closures, and values by name for the VM, which are made when one
// needs them.
type scope struct {
	cells  []cell         // by path; nil: the record is in env
	env    map[string]any // nil: not made yet
	record record         // of env, where it is to be made
	kafka  map[string]any // the record's surroundings
	item   any            // the item at hand
	items  bool           // there is one
	about  bool           // the mapping is about items: no field of the record is named item
	work   int            // of closures on the item at hand, in bytes walked
}

// names are all values by name.
func (s *scope) names() map[string]any {
	if s.env == nil {
		s.env = s.record.names()
		if s.kafka != nil {
			s.env["kafka"] = s.kafka
		}
		if s.about {
			s.env["item"] = s.item
		}
	}
	return s.env
}

// at puts an item at hand.
func (s *scope) at(item any) {
	s.item, s.items = item, true
	if s.env != nil {
		s.env["item"] = item
	}
}

// without takes it away.
func (s *scope) without() {
	s.item, s.items = nil, false
	if s.env != nil {
		s.env["item"] = nil
	}
}

// find follows a path by name. ok is false for a step into what has no fields.
func (s *scope) find(path []string) (v any, ok bool) {
	switch {
	case s.cells == nil:
		v = s.env[path[0]]
	case path[0] == "kafka":
		v = any(s.kafka)
	default:
		v = s.item
	}
	for _, name := range path[1:] {
		if v == nil {
			return nil, true
		}
		m, is := v.(map[string]any)
		if !is {
			return nil, false
		}
		v = m[name]
	}
	return v, true
}

// surround puts a record's surroundings in place.
func (s *scope) surround(kafka map[string]any) {
	s.kafka = kafka
	if s.env != nil {
		s.env["kafka"] = kafka
	}
}

// record is one that was found to be sound.
type record struct {
	codec *codec
	bytes []byte
	asked *fields
}

// names decodes what is asked for.
func (r *record) names() map[string]any {
	v, _, err := r.codec.schema.read(r.bytes, r.asked)
	env, ok := v.(map[string]any)
	if err != nil || !ok {
		return map[string]any{} // filling cells has read the same bytes to their end
	}
	return env
}
