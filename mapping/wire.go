package mapping

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
)

// Format is how a record's bytes are framed.
type Format string

// The formats. None leaves bytes as they are (of a key).
const (
	Confluent    Format = "confluent"     // 0, a schema id of four bytes, Avro
	SingleObject Format = "single-object" // C3 01, a fingerprint of eight bytes, Avro
	Bare         Format = "avro"          // Avro of a configured schema
	Raw          Format = "raw"           // text; the default of keys
)

// Schemas finds schemas by their id in a registry. An id that the registry does not know is ErrNoSchema; every other
// error is passing, and worth asking again.
type Schemas interface {
	Schema(id int) (text string, references []string, err error)
}

// ErrNotAvro says that a registry knows a schema id, and that its schema is none of Avro's.
var ErrNotAvro = errors.New("the schema is not Avro")

// ErrNoSchema says that a registry does not know a schema id.
var ErrNoSchema = errors.New("the schema registry does not know the schema id")

// ErrRegistry says that a registry could not be asked.
var ErrRegistry = errors.New("the schema registry cannot be asked")

// schemaID names a schema within a source: a registry's id, a fingerprint, or 0 for a configured one.
type schemaID uint64

// Decoder reads records of one format. It is safe for use by several goroutines.
type Decoder struct {
	format  Format
	schemas Schemas
	mu      sync.RWMutex
	codecs  map[schemaID]*codec
}

// NewDecoder makes a decoder. Bare Avro and single objects need the texts of their schemas.
func NewDecoder(format Format, schemas Schemas, texts ...string) (*Decoder, error) {
	d := &Decoder{format: format, schemas: schemas, codecs: map[schemaID]*codec{}}
	for _, text := range texts {
		c, err := newCodec(text, nil)
		if err != nil {
			return nil, err
		}
		id := schemaID(0)
		if format == SingleObject {
			f, err := fingerprint(text)
			if err != nil {
				return nil, err
			}
			id = schemaID(f)
		}
		d.codecs[id] = c
	}
	switch {
	case (format == Bare || format == SingleObject) && len(texts) == 0:
		return nil, fmt.Errorf("format %s needs a schema file", format)
	case format == Confluent && schemas == nil:
		return nil, errors.New("format confluent needs a schema_registry")
	}
	return d, nil
}

// decode returns the datum, of a record what is asked for, and the schema that it was written with; nil: none.
func (d *Decoder) decode(b []byte, asked *fields) (any, *schema, error) {
	if d.format == Raw || d.format == "" {
		return string(b), nil, nil
	}
	c, b, err := d.open(b)
	if err != nil {
		return nil, nil, err
	}
	v, err := c.decode(b, asked)
	return v, c.schema, err
}

// open takes the frame off a record.
func (d *Decoder) open(b []byte) (*codec, []byte, error) {
	var id schemaID
	switch d.format {
	case Confluent:
		if len(b) < 5 || b[0] != 0 {
			return nil, nil, errors.New("decoding: the value does not begin with Confluent's magic byte and a schema id")
		}
		id, b = schemaID(binary.BigEndian.Uint32(b[1:])), b[5:]
	case SingleObject:
		if len(b) < 10 || b[0] != 0xC3 || b[1] != 1 {
			return nil, nil, errors.New("decoding: the value does not begin with an Avro single object's marker")
		}
		id, b = schemaID(binary.LittleEndian.Uint64(b[2:])), b[10:]
	case Bare:
	default:
		return nil, nil, errors.New("the value is no record")
	}
	c, err := d.codec(id)
	return c, b, err
}

// badSchema is a schema that cannot be used; it stays so.
type badSchemaError struct{ err error }

func (e *badSchemaError) Error() string { return e.err.Error() }
func (e *badSchemaError) Unwrap() error { return e.err }

func (d *Decoder) codec(id schemaID) (*codec, error) {
	d.mu.RLock()
	c := d.codecs[id]
	d.mu.RUnlock()
	if c != nil {
		return c, nil
	}
	if d.format != Confluent {
		return nil, fmt.Errorf("decoding: no configured schema has the fingerprint %016x", uint64(id))
	}
	text, references, err := d.schemas.Schema(int(id))
	if err != nil {
		return nil, fmt.Errorf("schema id %d: %w", id, err)
	}
	c, err = newCodec(text, references)
	if err != nil {
		return nil, fmt.Errorf("schema id %d: %w", id, &badSchemaError{err})
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.codecs[id] = c
	return c, nil
}
