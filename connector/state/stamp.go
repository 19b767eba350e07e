package state

// Stamp is where and when a change was said: a topic (by its durable number in this table), partition, leader epoch
// (-1: not known) and offset, and the event's time in nanoseconds since 1970.
type Stamp struct {
	Topic     uint32
	Partition int32
	Epoch     int32
	Offset    int64
	Time      int64
}

func (s Stamp) samePartition(o Stamp) bool { return s.Topic == o.Topic && s.Partition == o.Partition }

// Newer says whether s supersedes o: within a partition by leader epoch, then by offset (what is written after its log
// went back has lower offsets); across partitions by time, a tie going to the higher (topic, partition). A zero o is
// older than everything.
func (s Stamp) Newer(o Stamp) bool {
	switch {
	case o == Stamp{}:
		return true
	case s.samePartition(o) && s.Epoch != o.Epoch && s.Epoch >= 0 && o.Epoch >= 0:
		return s.Epoch > o.Epoch
	case s.samePartition(o):
		return s.Offset > o.Offset
	case s.Time != o.Time:
		return s.Time > o.Time
	case s.Topic != o.Topic:
		return s.Topic > o.Topic
	}
	return s.Partition > o.Partition
}

// newerPerson orders the profiles of two people, whose records have no order of their own: by time, then position.
func (s Stamp) newerPerson(o Stamp) bool {
	if s.Time != o.Time {
		return s.Time > o.Time
	}
	return s.Newer(o)
}

// over is the stamp that stands after s superseded o: a move within a partition keeps the later of both times, so
// that a clock running back in one partition cannot let a third partition's change win in one order and lose in
// another (S35).
func (s Stamp) over(o Stamp) Stamp {
	if s.samePartition(o) && o.Time > s.Time {
		s.Time = o.Time
	}
	return s
}
