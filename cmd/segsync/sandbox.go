package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"segsync/sink/sandbox"
)

func newSandbox() *cobra.Command {
	var o sandbox.Options
	var addr, control string
	var lists []int
	cmd := &cobra.Command{
		Use:   "sandbox --addr localhost:8088",
		Short: "Serve a stand-in for the Sendinblue contacts API",
		Long:  "Serves a faithful stand-in for the Sendinblue (Brevo) contacts API, to stage a configuration: base_url: http://localhost:8088/v3.\nIts control address takes faults (POST /faults) and shows its lists (GET /lists/42) and counts (GET /stats).",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Latency < 0 || o.ImportTime < 0 || o.ImportRowTime < 0 || o.ExportTime < 0 || min(o.Rates.ContactsPerSecond, o.Rates.ContactsPerHour, o.Rates.OtherPerHour) < 0 || slices.ContainsFunc(lists, func(l int) bool { return l <= 0 }) {
				return &exitError{exitUsage, errors.New("times and limits must be no less than 0, lists numbers above 0")}
			}
			for _, a := range []string{addr, control} {
				if _, _, err := net.SplitHostPort(a); err != nil {
					return &exitError{exitUsage, fmt.Errorf("%q is no address: a host and a port, such as localhost:8088", a)}
				}
			}
			for _, l := range lists {
				o.Lists = append(o.Lists, int64(l))
			}
			s := sandbox.New(o)
			return failed(serveSandbox(cmd.Context(), s, addr, control, func(api, ctl net.Addr) {
				cmd.Printf("API      http://%s/v3\ncontrol  http://%s\n", api, ctl)
			}))
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&addr, "addr", "localhost:8088", "address of the API")
	fl.StringVar(&control, "control", "localhost:8089", "address of the control")
	fl.StringVar(&o.Key, "key", "", "the API key to insist on")
	fl.StringVar(&o.Account, "account", "", "whose the account is, an address: another one is another account")
	fl.IntSliceVar(&lists, "list", []int{42, 43}, "the lists there are")
	fl.DurationVar(&o.Latency, "latency", 20*time.Millisecond, "of each answer")
	fl.DurationVar(&o.ImportTime, "import-time", 2*time.Second, "how long an import takes")
	fl.DurationVar(&o.ImportRowTime, "import-row-time", 0, "and for each row")
	fl.DurationVar(&o.ExportTime, "export-time", time.Second, "how long an export takes")
	fl.IntVar(&o.Rates.ContactsPerSecond, "contacts-per-second", 10, "limit under /contacts; 0 none")
	fl.IntVar(&o.Rates.ContactsPerHour, "contacts-per-hour", 36000, "limit under /contacts; 0 none")
	fl.IntVar(&o.Rates.OtherPerHour, "other-per-hour", 100, "limit of all other calls; 0 none")
	return cmd
}

// serveSandbox serves the API and the control address until ctx ends.
func serveSandbox(ctx context.Context, s *sandbox.Server, addr, control string, listening func(api, control net.Addr)) error {
	var lc net.ListenConfig
	api, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	ctl, err := lc.Listen(ctx, "tcp", control)
	if err != nil {
		return errors.Join(err, api.Close())
	}
	s.SetBaseURL("http://" + api.Addr().String())
	listening(api.Addr(), ctl.Addr())
	servers := []*http.Server{{Handler: s, ReadHeaderTimeout: time.Minute}, {Handler: s.Control(), ReadHeaderTimeout: time.Minute}}
	stop := context.AfterFunc(ctx, func() {
		for _, h := range servers {
			_ = h.Close()
		}
	})
	defer stop()
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i, l := range []net.Listener{api, ctl} {
		wg.Go(func() {
			if err := servers[i].Serve(l); !errors.Is(err, http.ErrServerClosed) {
				errs[i] = err
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
