package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"go.uber.org/zap"

	"segsync/connector/backoff"
	"segsync/connector/state"
	"segsync/sink"
)

// typesKey is the row with what the account told last of its attributes, by name; without a type one that it does not
// have. A row of an earlier version, which held no options, counts as none.
const typesKey = "attributes"

// Bounds of asking: how long a call may take, and how long a take-over asks before it goes on with what the table knows.
const (
	askCall = 30 * time.Second
	askMost = 2 * time.Second
)

// typesAgain is how often the account is asked whether its attributes have changed.
const typesAgain = 10 * time.Minute

// askTypes asks the account for its attributes' types, unless it has told them in this process, until it answers or ctx
// ends. It takes a key that is trusted: one that could not be checked is checked again.
func (a *account) askTypes(ctx context.Context) (map[string]sink.AttributeInfo, error) {
	if types := a.process.attributeTypes(); types != nil {
		return types, nil
	}
	for try := 0; ; try++ {
		a.watchKey() //nolint:contextcheck // the epoch has its own
		once, cancel := context.WithTimeout(ctx, askCall)
		types, err := a.sender.Attributes(once)
		cancel()
		if err != nil {
			err = fmt.Errorf("waiting for the account: %w", err)
		}
		a.process.setTypes(types, err)
		if err == nil || ctx.Err() != nil {
			return types, err
		}
		if try%20 == 0 {
			a.log.Warn("the account does not tell its attributes' types", zap.Error(err))
		}
		if backoff.Sleep(ctx, backoff.Pause(time.Second, 15*time.Second, try)); ctx.Err() != nil {
			return nil, err
		}
	}
}

// knowTypes gives the types of the attributes that the configuration names: from the account or, in an outage of it, as
// the table knows them, so that reading goes on. Without either it waits: what is read would have no form.
func (a *account) knowTypes() (map[string]sink.AttributeInfo, error) {
	a.mu.Lock()
	last := a.cfg.lastTypes(a.table)
	a.mu.Unlock()
	ctx := a.ctx
	if last != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, askMost)
		defer cancel()
	}
	types, err := a.askTypes(ctx)
	if err != nil && last != nil && !a.ended() {
		a.log.Warn("the account does not answer: attributes have the types that it told last", zap.Error(err))
		a.old = true
		return last, nil
	}
	if err != nil {
		return nil, err
	}
	named := a.named(types)
	row, err := json.Marshal(named)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil && string(row) != string(a.table.Meta(typesKey)) {
		a.table.SetMeta(typesKey, row)
	}
	return named, err
}

// renewTypes asks again: at once, and until it is told, where the epoch began with what the table knew, then once in a
// while, for people add options and attributes while we run.
func (a *account) renewTypes() {
	if a.old {
		types, err := a.askTypes(a.ctx)
		a.compareTypes(types, err)
	}
	a.every(typesAgain, func() {
		once, cancel := context.WithTimeout(a.ctx, askCall)
		defer cancel()
		types, err := a.sender.Attributes(once)
		if err == nil {
			a.process.setTypes(types, nil)
		}
		a.compareTypes(types, err)
	})
}

// compareTypes ends an epoch whose types are not the account's any more: the next one has these.
func (a *account) compareTypes(types map[string]sink.AttributeInfo, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil && !maps.EqualFunc(a.types, a.named(types), sink.AttributeInfo.Equal) {
		a.kill(errors.New("the account's attributes have changed: it goes on with what they are now"))
	}
}

// named are the types of the attributes that the configuration names.
func (a *account) named(types map[string]sink.AttributeInfo) map[string]sink.AttributeInfo {
	named := map[string]sink.AttributeInfo{}
	for _, s := range a.cfg.Sources {
		for _, x := range s.Spec.Attributes {
			named[x.Name] = types[x.Name]
		}
	}
	return named
}

// lastTypes are those in a table; nil if it does not know all that the configuration names.
func (c *Config) lastTypes(t *state.Table) map[string]sink.AttributeInfo {
	var last map[string]sink.AttributeInfo
	if json.Unmarshal(t.Meta(typesKey), &last) != nil {
		return nil
	}
	for _, s := range c.Sources {
		for _, a := range s.Spec.Attributes {
			if _, ok := last[a.Name]; !ok {
				return nil
			}
		}
	}
	return last
}
