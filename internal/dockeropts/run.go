package dockeropts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// Run reads o.EnvFile and writes o.Output. getenv is os.Getenv, or a test's own. On an error the
// output file is as it was.
func Run(o Options, getenv func(string) string) error {
	raw, err := os.ReadFile(o.EnvFile)
	if err != nil {
		return fmt.Errorf("read env file: %w (is the daemon running?)", err)
	}
	out, err := Generate(ParseEnv(raw), o, getenv(o.Key))
	if err != nil {
		return fmt.Errorf("docker options from %s: %w", o.EnvFile, err)
	}
	if err := replace(o.Output, out); err != nil {
		return fmt.Errorf("write docker options to %s: %w", o.Output, err)
	}
	return nil
}

// replace puts data at path in one step, or not at all.
func replace(path string, data []byte) error {
	info, err := os.Stat(path) // follows links
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// A new file.
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return write(path, data)
	default:
		// A rename would replace a link, not the file that it leads to.
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return err
		}
	}
	return renameio.WriteFile(path, data, 0o644, renameio.WithTempDir(filepath.Dir(path)))
}

// write is for what a rename must not replace: a terminal, a pipe, /dev/null.
func write(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}
