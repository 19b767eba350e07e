package state

import (
	"encoding/binary"
	"strings"
)

// names are the durable numbers that stand for long words in rows: sources, segments, attributes and topic ids.
// A number is given once and never changes; its row travels in the checkpoint of the first row that uses it.
type names struct {
	of      []string // number to "kind\x00name"
	numbers map[string]uint32
}

func (n *names) split(number uint32) (kind, name string) {
	kind, name, _ = strings.Cut(n.of[number], "\x00")
	return kind, name
}

const namePrefix = "name/"

// number returns the number of a word, giving it one if it has none.
func (t *Table) number(kind, name string) uint32 {
	word := kind + "\x00" + name
	if n, ok := t.names.numbers[word]; ok {
		return n
	}
	n := uint32(len(t.names.of))
	t.names.of = append(t.names.of, word)
	t.names.numbers[word] = n
	t.SetMeta(nameKey(n), []byte(word))
	return n
}

// Topic is the durable number of a topic, by its id. name is kept beside it for people.
func (t *Table) Topic(id [16]byte, name string) uint32 {
	return t.number("topic", string(id[:])+name)
}

// TopicName is the name behind a topic's number.
func (t *Table) TopicName(number uint32) string {
	if int(number) >= len(t.names.of) {
		return ""
	}
	if kind, name := t.names.split(number); kind == "topic" && len(name) >= 16 {
		return name[16:]
	}
	return ""
}

// Topics lists every topic id that the table has read, by topic name.
func (t *Table) Topics() map[string][][16]byte {
	all := map[string][][16]byte{}
	for n := range t.names.of {
		if kind, name := t.names.split(uint32(n)); kind == "topic" && len(name) >= 16 {
			all[name[16:]] = append(all[name[16:]], [16]byte([]byte(name[:16])))
		}
	}
	return all
}

func nameKey(n uint32) string {
	return namePrefix + string(binary.BigEndian.AppendUint32(nil, n))
}

// applyName restores a number. Rows may come in any order; gaps are filled as they come.
func (t *Table) applyName(key string, word []byte) error {
	if len(key) != len(namePrefix)+4 {
		return errShort
	}
	n := binary.BigEndian.Uint32([]byte(key[len(namePrefix):]))
	if n > 1<<24 {
		return errShort
	}
	for uint32(len(t.names.of)) <= n {
		t.names.of = append(t.names.of, "")
	}
	t.names.of[n] = string(word)
	t.names.numbers[string(word)] = n
	return nil
}
