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

// typesKey is the row with the types of the account's attributes, as last told: names to types, "" of one that the
// account does not have.
const typesKey = "attributes"

// Bounds of asking: how long a call may take, and how long a take-over asks before it goes on with what the table knows.
const (
	askCall = 30 * time.Second
	askMost = 2 * time.Second
)

// askTypes asks the account for its attributes' types, unless it has told them in this process, until it answers or ctx
// ends. It takes a key that is trusted: one that could not be checked is checked again.
func (a *account) askTypes(ctx context.Context) (map[string]sink.AttributeType, error) {
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
func (a *account) knowTypes() (map[string]sink.AttributeType, error) {
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

// renewTypes ends an epoch that began with types that are not the account's any more: the next one has these.
func (a *account) renewTypes() {
	types, err := a.askTypes(a.ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil && !maps.Equal(a.types, a.named(types)) {
		a.kill(errors.New("the account's attributes have other types than before the outage"))
	}
}

// named are the types of the attributes that the configuration names.
func (a *account) named(types map[string]sink.AttributeType) map[string]sink.AttributeType {
	named := map[string]sink.AttributeType{}
	for _, s := range a.cfg.Sources {
		for _, x := range s.Spec.Attributes {
			named[x.Name] = types[x.Name]
		}
	}
	return named
}

// lastTypes are those in a table; nil if it does not know all that the configuration names.
func (c *Config) lastTypes(t *state.Table) map[string]sink.AttributeType {
	var last map[string]sink.AttributeType
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
