// Command segsync keeps Sendinblue (Brevo) contact lists in step with customer segments.
package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"segsync/cmd/segsync/config"
	"segsync/connector"
)

// version is set by the linker, or comes from the build's own information.
var version = ""

// Exit codes: a contract with scripts.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitEnvironment = 3
)

// exitError is an error with its exit code.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func main() { os.Exit(run(os.Args[1:])) }

// run is the program as a function.
func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)  // a second signal ends at once
	signal.Ignore(syscall.SIGHUP) // a terminal that is closed is no reason to end
	root := newRoot()
	root.SetArgs(args)
	out := &terminal{os.Stdout}
	root.SetOut(out)
	root.SetErr(out) // what a command prints is its answer; errors and logs go to standard error
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	_, _ = fmt.Fprintln(&terminal{os.Stderr}, "segsync: "+strings.TrimPrefix(err.Error(), "segsync: "))
	return exitCode(err)
}

// exitCode is the one of an error.
func exitCode(err error) int {
	if exit, ok := errors.AsType[*exitError](err); ok {
		return exit.code
	}
	for _, e := range []error{connector.ErrHalted, connector.ErrRunning, connector.ErrEnvironment, errAdmin} {
		if errors.Is(err, e) {
			return exitEnvironment
		}
	}
	return exitUsage // problems of a configuration; cobra's own: unknown commands and flags
}

// failed gives an error of a command that was understood its exit code: it failed while running, unless it says otherwise.
func failed(err error) error {
	var exit *exitError
	var wrong config.Problems
	switch {
	case err == nil, errors.As(err, &exit), errors.As(err, &wrong), exitCode(err) == exitEnvironment:
		return err
	case errors.Is(err, context.Canceled):
		err = errors.New("interrupted")
	}
	return &exitError{exitFailed, err}
}

// noArgs refuses arguments; a file among them is meant for -c.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if strings.HasSuffix(args[0], ".yaml") || strings.HasSuffix(args[0], ".yml") {
		return fmt.Errorf("%q is no argument of %s: a configuration file is given with -c %s", args[0], cmd.CommandPath(), args[0])
	}
	return cobra.NoArgs(cmd, args)
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "segsync",
		Short:         "Keeps Sendinblue (Brevo) contact lists in step with customer segments",
		Long:          "segsync reads segment-membership events from Kafka and keeps Sendinblue (Brevo) contact lists as the events say.\n\nExit codes: 0 done, 1 failed while running, 2 configuration or usage, 3 the environment is not as the configuration says.",
		SilenceUsage:  true,
		Version:       programVersion(),
		SilenceErrors: true,
	}
	root.AddCommand(newRun(), newCheck(), newBackfill(), newPlan(), newPause(), newResume(), newApprove(), newRefuse(), newRetry(), newRunNow(), newRuns(), newErase(), newTrace(), newNotify(), newAudit(), newForget(), newStatus(), newSandbox(), newDemo(), newVersion())
	root.SetHelpCommand(newHelp(root))
	return root
}

// newHelp is the library's, but for a command that there is not: that is an error.
func newHelp(root *cobra.Command) *cobra.Command {
	return &cobra.Command{Use: "help [command]", Short: "Help about any command", RunE: func(_ *cobra.Command, args []string) error {
		cmd, _, err := root.Find(args)
		if err != nil {
			return err
		}
		return cmd.Help()
	}}
}

func newVersion() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version", Args: noArgs, Run: func(cmd *cobra.Command, _ []string) {
		cmd.Println("segsync " + programVersion())
	}}
}

func programVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}

// configFlags are the flags of every command that reads a configuration.
type configFlags struct {
	files []string
	level string
}

func (f *configFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringArrayVarP(&f.files, "config", "c", nil, "configuration file; may be given several times")
	cmd.Flags().StringVar(&f.level, "log-level", "info", "debug, info, warn or error")
}

// load reads the configuration and makes the wiring.
func (f *configFlags) load() (*wiring, error) {
	log, err := newLogger(f.level)
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	c, err := config.Load(f.files, false)
	if err != nil {
		return nil, err
	}
	w, err := newWiring(c, log)
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	for _, owner := range slices.Sorted(maps.Keys(c.Troubled)) {
		log.Error("an owner's files have problems: its exports are off", zap.String("owner", owner), zap.String("problems", c.Troubled[owner].Error()))
	}
	return w, nil
}

// newLogger writes JSON lines to standard error; success is silent, metrics speak.
func newLogger(level string) (*zap.Logger, error) {
	l, err := zapcore.ParseLevel(level)
	if err != nil {
		return nil, fmt.Errorf("--log-level: %w", err)
	}
	cfg := zap.NewProductionConfig()
	cfg.Level = zap.NewAtomicLevelAt(l)
	cfg.EncoderConfig.EncodeTime = zapcore.RFC3339TimeEncoder
	cfg.DisableCaller, cfg.DisableStacktrace = true, true
	return cfg.Build()
}
