package main

import (
	"context"
	"errors"
	"fmt"

	"segsync/connector"
	"segsync/sink"
	"segsync/sink/sendinblue"
)

// account checks a connection's key, lists and attributes.
func (p *preflight) account(ctx context.Context, cfg *connector.Config) {
	con := p.w.c.Connection(cfg.Name)
	options, err := p.w.api(con)
	if err != nil {
		p.fail("%s", err)
		return
	}
	api := sendinblue.New(options)
	defer api.Close()
	account, err := api.Account(ctx)
	if err != nil {
		p.fail("connection %s: %s: %s", cfg.Name, err, mendOf(err, con.BaseURL))
		return
	}
	if other := p.accounts[account.ID]; other != "" {
		p.fail("connections %s and %s are one account: calls are counted and ordered per account; use one connection", other, cfg.Name)
	}
	p.accounts[account.ID] = cfg.Name
	p.ok("connection %s: the key is accepted; the account is %s's", cfg.Name, account.Name)
	types, err := api.Attributes(ctx)
	if err != nil {
		p.fail("connection %s: reading the account's attributes: %s", cfg.Name, err)
		return
	}
	if !p.lists(ctx, api, cfg) {
		return
	}
	for _, x := range cfg.Exports {
		if x.List != 0 {
			p.list(ctx, api, &x)
		}
		p.attributes(ctx, api, &x, types)
	}
}

// mendOf says what to do about an account that does not answer as it must.
func mendOf(err error, base string) string {
	var o *sink.OutcomeError
	switch {
	case !errors.As(err, &o):
		return "try again later"
	case o.Outcome.Busy:
		return "the account's call budget is used up for now: try again later"
	case o.Outcome.Verdict == sink.Retry:
		return "nothing answers at " + base + ": check base_url, the network and HTTPS_PROXY"
	case o.Outcome.Mend != "":
		return o.Outcome.Mend
	}
	return "check api_key"
}

func (p *preflight) list(ctx context.Context, api *sendinblue.Client, x *connector.Export) {
	l, err := api.List(ctx, x.List)
	switch {
	case err != nil:
		p.fail("export %s: list %d: %s: make it, or correct its number", x.Name, x.List, err)
	case l.Dynamic:
		p.fail("export %s: list %d is dynamic: its members follow from a condition; choose a static list", x.Name, x.List)
	default:
		p.ok("export %s: list %d holds %d contacts", x.Name, x.List, l.Contacts)
	}
}

func (p *preflight) attributes(ctx context.Context, api *sendinblue.Client, x *connector.Export, types map[string]sink.AttributeInfo) {
	for _, a := range x.Attributes {
		of, ok := types[a]
		if !ok && p.createAttributes {
			if err := api.CreateAttribute(ctx, a, sink.Text); err != nil {
				p.fail("export %s: making attribute %s: %s", x.Name, a, err)
				continue
			}
			types[a] = sink.AttributeInfo{Type: sink.Text}
			p.ok("export %s: attribute %s was made, a text", x.Name, a)
			continue
		}
		if !ok {
			p.fail("export %s: the account has no attribute %s: make it there, or run check --create-attributes", x.Name, a)
			continue
		}
		if why, refused := ofNobody[of.Type]; refused {
			p.fail("export %s: attribute %s is %s: %s; take it out of the export", x.Name, a, of.Type, why)
			continue
		}
		p.ok("export %s: attribute %s is %s%s", x.Name, a, of.Type, optionsOf(of))
	}
}

// ofNobody says why no contact can be given attributes of some types.
var ofNobody = map[sink.AttributeType]string{
	sink.Calculated: "the account computes it", sink.Global: "the account computes it",
	sink.Transactional: "it belongs to orders, and a contact that has one is refused",
}

// optionsOf names an attribute's options, as far as a line holds them.
func optionsOf(of sink.AttributeInfo) string {
	if len(of.Options) == 0 {
		return ""
	}
	shown, more := of.Options, ""
	if len(shown) > 10 {
		shown, more = shown[:10], fmt.Sprintf(" and %d more", len(of.Options)-10)
	}
	return fmt.Sprintf(", one of %q", shown) + more
}
