package connector

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"segsync/sink"
)

// What is wrong with lists that exports name.
var (
	ErrNoList  = errors.New("a list is not to be found")
	ErrOneList = errors.New("two exports write one list")
)

// listsAgain is how long a process waits until it asks for the account's lists once more: each time takes calls of the scarce
// budget.
const listsAgain = 2 * time.Minute

// FindLists fills in the numbers of the lists that exports name. It asks the account, unless there is nothing to fill in. An
// owner's export of a list that turns out to be another's gives way: it is taken out, and named.
func FindLists(ctx context.Context, cfg *Config) (off []string, err error) {
	if !slices.ContainsFunc(cfg.Exports, named) {
		return nil, nil
	}
	var all []sink.ListInfo
	if slices.ContainsFunc(cfg.Exports, sought) {
		if all, err = cfg.Lists(ctx); err != nil {
			return nil, fmt.Errorf("asking the account for its lists: %w", err)
		}
	}
	found := slices.Clone(cfg.Exports)
	for i := range found {
		x := &found[i]
		if sought(*x) {
			if x.List, err = listOf(x, all); err != nil {
				return nil, err
			}
		}
		for _, other := range found[:i] {
			switch {
			case other.List != x.List:
			case x.Owner != "" && other.Owner == "":
				off = append(off, x.Name)
			case other.Owner != "" && x.Owner == "":
				off = append(off, other.Name)
			default:
				return nil, fmt.Errorf("%w: exports %s and %s, list %d: put all their segments into one export", ErrOneList, other.Name, x.Name, x.List)
			}
		}
	}
	cfg.Exports = slices.DeleteFunc(found, func(x Export) bool { return x.Owner != "" && slices.Contains(off, x.Name) })
	return off, nil
}

func named(x Export) bool { return x.Named.Name != "" }

// sought says whether the number of an export's list is not known yet.
func sought(x Export) bool { return named(x) && x.List == 0 }

// listOf finds an export's list by its name.
func listOf(x *Export, all []sink.ListInfo) (int64, error) {
	var numbers []int64
	for _, l := range all {
		if x.Named.Is(l) {
			numbers = append(numbers, l.ID)
		}
	}
	switch len(numbers) {
	case 1:
		return numbers[0], nil
	case 0:
		return 0, fmt.Errorf("%w: export %s: there is no list %s: make it, or correct its name; with a folder, segsync check --create-lists makes it", ErrNoList, x.Name, x.Named)
	}
	return 0, fmt.Errorf("%w: export %s: lists %v are all named %q: say the folder or the number", ErrNoList, x.Name, numbers, x.Named.Name)
}
