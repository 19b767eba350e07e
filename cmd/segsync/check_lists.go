package main

import (
	"context"
	"errors"
	"slices"

	"segsync/connector"
	"segsync/sink"
	"segsync/sink/sendinblue"
)

// listsQuota is how many lists accounts on general plans hold, as third parties have it; Enterprise ones hold 600.
const listsQuota = 300

// lists finds the lists that exports name, and makes those that are missing if that is asked for. It returns false if the
// account's lists cannot be told.
func (p *preflight) lists(ctx context.Context, api *sendinblue.Client, cfg *connector.Config) bool {
	named := func(x connector.Export) bool { return x.Named.Name != "" }
	if !slices.ContainsFunc(cfg.Exports, named) {
		return true
	}
	all, err := api.Lists(ctx)
	if err != nil {
		p.fail("connection %s: reading the account's lists: %s", cfg.Name, err)
		return false
	}
	have, missing := len(all), 0
	for i := range cfg.Exports {
		x := &cfg.Exports[i]
		if !named(*x) || slices.ContainsFunc(all, x.Named.Is) {
			continue
		}
		missing++
		if p.createLists {
			if l, made := p.createList(ctx, api, x); made {
				all = append(all, l)
			}
		}
	}
	if have+missing > listsQuota {
		p.warn("connection %s: the account has %d lists, and %d more are wanted: accounts on general plans are said to hold %d", cfg.Name, have, missing, listsQuota)
	}
	cfg.Lists = func(context.Context) ([]sink.ListInfo, error) { return all, nil }
	for i := range cfg.Exports {
		one := *cfg
		one.Exports = cfg.Exports[i : i+1] // each is told of
		if _, err := connector.FindLists(ctx, &one); err != nil {
			p.fail("connection %s: %s", cfg.Name, err)
		}
		cfg.Exports[i].List = one.Exports[0].List
	}
	off, err := connector.FindLists(ctx, cfg)
	for _, name := range off {
		p.fail("connection %s: the owner's export %s is off: its list is that of an admins' export, which names it", cfg.Name, name)
	}
	switch {
	case errors.Is(err, connector.ErrOneList):
		p.fail("connection %s: %s", cfg.Name, err)
	case err == nil:
		p.ok("connection %s: lists of the account %d, named by exports %d", cfg.Name, len(all), countOf(cfg.Exports, named))
	}
	return true
}

// createList makes an export's list.
func (p *preflight) createList(ctx context.Context, api *sendinblue.Client, x *connector.Export) (sink.ListInfo, bool) {
	if x.Named.Folder == 0 {
		p.fail("export %s: to make list %s its folder must be known: list: { name: %q, folder: NUMBER }", x.Name, x.Named, x.Named.Name)
		return sink.ListInfo{}, false
	}
	id, err := api.CreateList(ctx, x.Named.Name, x.Named.Folder)
	if err != nil {
		p.fail("export %s: making list %s: %s", x.Name, x.Named, err)
		return sink.ListInfo{}, false
	}
	p.ok("export %s: list %s was made: number %d", x.Name, x.Named, id)
	return sink.ListInfo{ID: id, Name: x.Named.Name, Folder: x.Named.Folder}, true
}

func countOf[T any](all []T, is func(T) bool) (n int) {
	for _, x := range all {
		if is(x) {
			n++
		}
	}
	return n
}
