package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"twill/internal/envfile"
	"twill/internal/journal"
)

// settingsFiles are the service's settings, in the order in which twill.service reads them: Debian's, Red Hat's.
var settingsFiles = []string{"/etc/default/twill", "/etc/sysconfig/twill"}

// needSettings are the commands that speak of the daemon of this host or to its etcd: what they do without flags should
// concern the service. `twill run` gets them from systemd, or is tried by hand with flags.
var needSettings = []string{"leases", "peers", "status", "config", "docker-opts", "down", "check", "ping", "trace", "log-level", "top"}

// loadSettings puts what files say into the environment, for the command in args; what is there already wins. A part of the
// service, which systemd runs as a user who may not read them, has from systemd what they say.
func loadSettings(args, files []string, warn func(string)) {
	if len(args) < 2 || !slices.Contains(needSettings, args[1]) {
		return
	}
	settings := map[string]string{}
	for _, path := range files {
		raw, err := os.ReadFile(path)
		if err != nil {
			given := errors.Is(err, fs.ErrPermission) && journal.IsStderr()
			if !errors.Is(err, fs.ErrNotExist) && !given {
				warn(fmt.Sprintf("the service's settings do not count here: %v", err))
			}
			continue
		}
		vars, _ := envfile.Parse(raw)
		for _, v := range vars {
			settings[v.Name] = v.Value
		}
	}
	for name, value := range settings {
		if _, set := os.LookupEnv(name); !set {
			os.Setenv(name, value)
		}
	}
}

// unknownSettings returns the names in environ, as of os.Environ, that begin as our settings do, but that no flag is read
// from: misspelt ones.
func unknownSettings(environ []string, flags []cli.Flag) []string {
	known := map[string]bool{}
	for _, f := range flags {
		if f, ok := f.(cli.DocGenerationFlag); ok {
			for _, name := range f.GetEnvVars() {
				known[name] = true
			}
		}
	}
	var unknown []string
	for _, variable := range environ {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, settingPrefix) && !known[name] {
			unknown = append(unknown, name)
		}
	}
	return unknown
}
