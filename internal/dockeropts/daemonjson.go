package dockeropts

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// daemonKeys are the keys of dockerd's daemon.json for the options that Generate makes.
var daemonKeys = []string{"bip", "ip-masq", "mtu"}

// CheckDaemonJSON returns an error if the file at path, Docker's daemon.json, sets an option that o makes too: dockerd
// refuses to start when an option stands both there and on its command line. No file is fine.
func CheckDaemonJSON(path string, o Options) error {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read Docker's settings: %w", err)
	}
	both, err := conflicts(raw, o)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if len(both) > 0 {
		return fmt.Errorf("%s sets %s, which twill gives to Docker for its subnet: dockerd refuses to start with both; remove it there", path, strings.Join(both, " and "))
	}
	return nil
}

// conflicts returns the keys of a daemon.json that o's options stand in for.
func conflicts(raw []byte, o Options) ([]string, error) {
	if len(strings.TrimSpace(string(raw))) == 0 {
		return nil, nil // dockerd takes an empty file for no settings
	}
	var settings map[string]json.RawMessage
	if err := json.Unmarshal(raw, &settings); err != nil {
		return nil, fmt.Errorf("want a JSON object: %w", err)
	}
	var both []string
	for _, key := range daemonKeys {
		if _, set := settings[key]; set && !(key == "ip-masq" && o.NoIPMasq) {
			both = append(both, key)
		}
	}
	return both, nil
}
