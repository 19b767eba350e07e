package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"

	"segsync/cmd/segsync/config"
	"segsync/connector"
	"segsync/connector/changelog"
	"segsync/connector/deadletter"
	"segsync/connector/ownership"
	"segsync/mapping"
)

func newCheck() *cobra.Command {
	var f configFlags
	var offline bool
	var create creating
	var sample sampleFlags
	cmd := &cobra.Command{
		Use:   "check -c segsync.yaml [--sample RECORD]",
		Short: "Check the configuration, then Kafka, the registry and the accounts",
		Long:  "Checks the configuration, with line and column of every problem; then asks Kafka, the schema registry and the accounts whether they are as it says, a line for each.\nWith --offline it asks nobody (for CI).\nWith --sample it shows instead how one record is mapped, from its bytes to the request that it would lead to; nothing is sent.",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(f.files, offline)
			if err != nil {
				return err
			}
			if sample.of != "" {
				return sample.run(cmd, c, offline)
			}
			r := &report{out: cmd.OutOrStdout()}
			r.ok("configuration: sources %d, connections %d, exports %d", len(c.Sources), len(c.Connections), len(c.Exports))
			filled(c, r)
			for _, owner := range slices.Sorted(maps.Keys(c.Troubled)) {
				r.fail("owner %s: its exports are off until its files are mended:\n      %s", owner, strings.ReplaceAll(c.Troubled[owner].Error(), "\n", "\n      "))
			}
			if !offline {
				w, err := newWiring(c, zap.NewNop())
				if err != nil {
					return &exitError{exitUsage, err}
				}
				defer w.release()
				ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Minute)
				defer cancel()
				p := &preflight{report: r, w: w, creating: create, accounts: map[string]string{}}
				p.run(ctx)
			}
			disclose(c, r.out)
			if r.bad > 0 {
				return &exitError{exitEnvironment, fmt.Errorf("checks that failed: %d", r.bad)}
			}
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&offline, "offline", false, "check the configuration only")
	create.add(cmd)
	sample.add(cmd)
	return cmd
}

// creating is what check makes where it is missing.
type creating struct{ createAttributes, createLists, createTopics bool }

func (c *creating) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&c.createAttributes, "create-attributes", false, "make attributes that the account lacks, as text")
	cmd.Flags().BoolVar(&c.createLists, "create-lists", false, "make lists that are named and that the account lacks, in their folders")
	cmd.Flags().BoolVar(&c.createTopics, "create-topics", false, "make the topics that segsync needs")
}

// report prints a line for each check.
type report struct {
	out io.Writer
	bad int
}

func (r *report) ok(format string, args ...any) {
	_, _ = fmt.Fprintf(r.out, "ok    "+format+"\n", args...)
}

func (r *report) fail(format string, args ...any) {
	r.bad++
	_, _ = fmt.Fprintf(r.out, "FAIL  "+format+"\n", args...)
}

func (r *report) warn(format string, args ...any) {
	_, _ = fmt.Fprintf(r.out, "note  "+format+"\n", args...)
}

// filled says what presets have filled in.
func filled(c *config.Config, r *report) {
	for i := range c.Sources {
		if s := &c.Sources[i]; s.Filled != "" {
			r.ok("source %s: preset %s fills in\n        %s", s.Name, s.Preset, strings.ReplaceAll(strings.TrimSpace(s.Filled), "\n", "\n        "))
		}
	}
}

// disclose says which fields go to which account, under whose consent.
func disclose(c *config.Config, out io.Writer) {
	for i := range c.Exports {
		e := &c.Exports[i]
		con := c.Connection(e.Connection)
		name := con.Name
		if con.Display != "" {
			name = con.Display + " (" + con.Name + ")"
		}
		attributes := slices.Sorted(maps.Keys(e.Attributes))
		fields := strings.Join(append([]string{"e-mail address"}, attributes...), ", ")
		_, _ = fmt.Fprintf(out, "      export %s: %s of people %s → list %s of account %s; consent: %s, %s\n", e.Name, fields, e.People(), e.Of(), name, con.ConsentBy, con.ConsentOn)
	}
}

// preflight asks the environment whether it is as the configuration says.
type preflight struct {
	*report
	creating
	w        *wiring
	accounts map[string]string // account to connection
	cl       *kgo.Client
}

func (p *preflight) run(ctx context.Context) {
	configs, err := p.w.connections()
	if err != nil {
		p.fail("%s", err)
		return
	}
	cl, err := kgo.NewClient(p.w.kafka...)
	if err != nil {
		p.fail("kafka: %s", err)
		return
	}
	defer cl.Close()
	p.cl = cl
	if p.broker(ctx) {
		for i := range configs {
			p.topics(ctx, &configs[i])
		}
		p.dead(ctx)
	}
	for _, t := range p.w.c.Notify {
		if len(t.Command) == 0 {
			continue
		}
		if _, err := exec.LookPath(t.Command[0]); err != nil {
			p.warn("notify: %s: nobody is told by it here", err)
		}
	}
	for i := range configs {
		p.expressions(ctx, &configs[i])
		p.account(ctx, &configs[i])
	}
}

func (p *preflight) broker(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	meta, err := kadm.NewClient(p.cl).BrokerMetadata(ctx)
	if err != nil {
		hint := "check kafka.brokers, tls and sasl"
		switch {
		case !p.w.c.Kafka.TLS && (errors.Is(err, io.EOF) || errors.Is(err, context.DeadlineExceeded)):
			hint += "; a broker that wants TLS answers nothing to plain text: kafka.tls: {}"
		case p.w.c.Kafka.TLS && strings.Contains(err.Error(), "first record does not look like a TLS handshake"):
			hint += "; the broker speaks plain text: take kafka.tls away"
		}
		p.fail("kafka.brokers %s: %s: %s", strings.Join(p.w.c.Kafka.Brokers, ","), err, hint)
		return false
	}
	p.ok("kafka: brokers that answer: %d", len(meta.Brokers))
	return true
}

func (p *preflight) topics(ctx context.Context, cfg *connector.Config) {
	adm := kadm.NewClient(p.cl)
	for _, s := range cfg.Sources {
		if s.Regex != "" {
			p.pattern(ctx, cfg, &s)
			continue
		}
		details, err := adm.ListTopics(ctx, s.Topics...)
		if err != nil {
			p.fail("source %s: %s", s.Name, err)
			continue
		}
		for _, t := range s.Topics {
			if d := details[t]; d.Err != nil {
				p.fail("source %s: topic %s: %s: make it, or grant Read and Describe on it", s.Name, t, d.Err)
			} else {
				p.ok("source %s: topic %s has %d partitions", s.Name, t, len(d.Partitions))
			}
		}
	}
	topic := changelog.Name(cfg.Prefix, cfg.Name)
	check := changelog.Check
	err := check(ctx, adm, topic)
	if err != nil && p.createTopics {
		err = changelog.Ensure(ctx, p.cl, topic)
	}
	var missing *changelog.TopicError
	switch {
	case err == nil:
		p.ok("connection %s: table topic %s", cfg.Name, topic)
	case errors.As(err, &missing) && missing.Missing():
		p.warn("connection %s: %s", cfg.Name, err)
	default:
		p.fail("connection %s: %s", cfg.Name, err)
	}
	p.membership(ctx, cfg)
}

// pattern says which topics a source's pattern matches now.
func (p *preflight) pattern(ctx context.Context, cfg *connector.Config, s *connector.Source) {
	all, err := kadm.NewClient(p.cl).ListTopics(ctx)
	if err != nil {
		p.fail("source %s: %s", s.Name, err)
		return
	}
	re, err := regexp.Compile(s.Regex)
	if err != nil {
		p.fail("source %s: %s", s.Name, err)
		return
	}
	var matched, own []string
	for _, t := range all.Names() {
		switch {
		case !re.MatchString(t):
		case cfg.Owns(t):
			own = append(own, t)
		default:
			matched = append(matched, t)
		}
	}
	if len(own) > 0 {
		p.warn("source %s: pattern %s matches topics that segsync itself writes, which are never read: %s", s.Name, s.Regex, strings.Join(own, ", "))
	}
	if len(matched) == 0 {
		p.fail("source %s: pattern %s matches no topic, or none that may be read", s.Name, s.Regex)
		return
	}
	p.ok("source %s: pattern %s matches: %s", s.Name, s.Regex, strings.Join(matched, ", "))
}

// membership tries for real what a replica needs: to join the group, and, where no replica runs (it would be fenced), the
// transactional id.
func (p *preflight) membership(ctx context.Context, cfg *connector.Config) {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.ProtocolType = cfg.Group(), "consumer"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = int32(cfg.Session.Milliseconds()), int32(cfg.Session.Milliseconds())
	protocol := kmsg.NewJoinGroupRequestProtocol()
	protocol.Name = ownership.Protocol
	req.Protocols = append(req.Protocols, protocol)
	resp, err := req.RequestWith(ctx, p.cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	switch { // a first answer only gives a member id: nobody has joined
	case err == nil, errors.Is(err, kerr.MemberIDRequired), errors.Is(err, kerr.InconsistentGroupProtocol):
		p.ok("connection %s: group %s may be joined", cfg.Name, cfg.Group())
	case errors.Is(err, kerr.InvalidSessionTimeout):
		p.fail("connection %s: group %s: the brokers do not allow kafka.session_timeout %s", cfg.Name, cfg.Group(), cfg.Session)
	default:
		p.fail("connection %s: group %s: %s: grant Read and Describe on it", cfg.Name, cfg.Group(), err)
		return
	}
	c := connector.New(*cfg)
	if err := c.Idle(ctx); err != nil {
		p.warn("connection %s: the transactional id is not tried: %s", cfg.Name, err)
		return
	}
	init := kmsg.NewPtrInitProducerIDRequest()
	init.TransactionalID, init.TransactionTimeoutMillis = new(cfg.Group()), 60_000
	answer, err := init.RequestWith(ctx, p.cl)
	if err == nil {
		err = kerr.ErrorForCode(answer.ErrorCode)
	}
	if err != nil && !kerr.IsRetriable(err) {
		p.fail("connection %s: transactional id %s: %s: grant Write and Describe on it", cfg.Name, cfg.Group(), err)
		return
	}
	p.ok("connection %s: transactional id %s may be used", cfg.Name, cfg.Group())
}

func (p *preflight) dead(ctx context.Context) {
	if p.w.c.DeadLetters == "" {
		p.warn("dead_letters.topic is empty: rejected records are counted and dropped")
		return
	}
	details, err := kadm.NewClient(p.cl).ListTopics(ctx, p.w.c.DeadLetters)
	if err == nil {
		err = details[p.w.c.DeadLetters].Err
	}
	if err != nil && p.createTopics {
		err = deadletter.Ensure(ctx, p.cl, p.w.c.DeadLetters)
	}
	if err != nil {
		p.warn("topic %s for dead letters is not there yet: segsync makes it when it starts, or check --create-topics", p.w.c.DeadLetters)
		return
	}
	settings, err := changelog.Settings(ctx, kadm.NewClient(p.cl), p.w.c.DeadLetters)
	if err == nil && strings.Contains(settings["cleanup.policy"], "compact") {
		p.fail("topic %s for dead letters is compacted: of several letters with one key the last alone would stay; set cleanup.policy=delete", p.w.c.DeadLetters)
		return
	}
	p.ok("topic %s for dead letters", p.w.c.DeadLetters)
}

// expressions checks every expression against the registered schemas of each topic: a field must be in one of them.
func (p *preflight) expressions(ctx context.Context, cfg *connector.Config) {
	for _, s := range cfg.Sources {
		m, err := mapping.NewMapper(s.Spec, s.Value, s.Key)
		if err != nil {
			p.fail("source %s: %s", s.Name, err)
			continue
		}
		if p.w.registry == nil {
			p.ok("source %s: expressions compile", s.Name)
			continue
		}
		if versions := p.versions(ctx, &s); len(versions) > 0 {
			p.fit(&s, m, versions)
		}
	}
}

// versions are those of the schemas of a source's topics, each topic's newest first; none if one is not known yet: it may
// have what the others lack.
func (p *preflight) versions(ctx context.Context, s *connector.Source) (all []mapping.Version) {
	complete := true
	for _, t := range s.Topics {
		versions, err := p.w.registry.Versions(ctx, t)
		switch {
		case errors.Is(err, mapping.ErrNoSchema):
			p.warn("source %s: no schema is registered for %s-value: expressions are checked when the first record comes", s.Name, t)
			complete = false
		case err != nil:
			p.fail("schema registry: %s", err)
			complete = false
		}
		all = append(all, versions...)
	}
	if !complete {
		return nil
	}
	return all
}

// fit checks a source's expressions against its topics' schemas.
func (p *preflight) fit(s *connector.Source, m *mapping.Mapper, versions []mapping.Version) {
	err := m.Check(versions...)
	all := config.ExpressionErrors(err)
	topics := strings.Join(s.Topics, ", ")
	switch {
	case err == nil && (len(versions) == 1 || m.Check(versions[0]) == nil):
		p.ok("source %s: expressions fit the newest schema of %s", s.Name, topics)
	case err == nil:
		p.ok("source %s: expressions fit the %d versions of the schemas of %s: a field that a version lacks is null there", s.Name, len(versions), topics)
	case len(all) == 0:
		p.fail("source %s, %s: %s", s.Name, topics, err)
	}
	for _, e := range all {
		p.fail("source %s, %s: %s", s.Name, topics, strings.ReplaceAll(p.w.c.Locate(s.Name, e), "\n", "\n      "))
	}
}
