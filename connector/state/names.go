package state

import (
	"encoding/binary"
	"strings"
)

// names are the durable numbers that stand for long words in rows: sources, segments, attributes and topic ids.
// A number is given once and never changes; its row travels in the checkpoint of the first row that uses it.
type names struct {
	journal *journal
	of      []string // number to "kind\x00name"
	numbers map[string]uint32
}

func newNames(j *journal) *names { return &names{journal: j, numbers: map[string]uint32{}} }

func (n *names) split(number uint32) (kind, name string) {
	kind, name, _ = strings.Cut(n.of[number], "\x00")
	return kind, name
}

const namePrefix = "name/"

// number returns the number of a word, giving it one if it has none.
func (n *names) number(kind, name string) uint32 {
	word := kind + "\x00" + name
	if k, ok := n.numbers[word]; ok {
		return k
	}
	k := uint32(len(n.of))
	n.of = append(n.of, word)
	n.numbers[word] = k
	n.journal.set(nameKey(k), []byte(word))
	return k
}

// attribute is the name of an attribute.
func (n *names) attribute(number uint32) string { _, name := n.split(number); return name }

// segment is the name of a segment in its source.
func (n *names) segment(number uint32) string {
	_, word := n.split(number)
	parts := strings.Split(word, "\x00")
	return parts[min(1, len(parts)-1)]
}

// lost says whether a number's name was lost with its row.
func (n *names) lost(number uint32) bool { return int(number) >= len(n.of) || n.of[number] == "" }

// named is how many numbers have a name.
func (n *names) named() (k int) {
	for _, word := range n.of {
		k += int(bit(word != ""))
	}
	return k
}

// Topic is the durable number of a topic, by its id. name is kept beside it for people.
func (t *Table) Topic(id [16]byte, name string) uint32 {
	return t.names.number("topic", string(id[:])+name)
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

// apply restores a number. Rows may come in any order; gaps are filled as they come.
func (n *names) apply(key string, word []byte) error {
	if len(key) != len(namePrefix)+4 {
		return errShort
	}
	k := binary.BigEndian.Uint32([]byte(key[len(namePrefix):]))
	if k > 1<<24 {
		return errShort
	}
	for uint32(len(n.of)) <= k {
		n.of = append(n.of, "")
	}
	n.of[k] = string(word)
	n.numbers[string(word)] = k
	return nil
}
