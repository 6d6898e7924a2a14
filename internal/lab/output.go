package lab

import (
	"bytes"
	"io"
	"strings"
	"sync"
)

// keepOutput is how much of a process's output is kept, in bytes: the latest.
const keepOutput = 1 << 20

// output collects what a process prints and copies it, line by line with a name
// in front, to a writer.
type output struct {
	name string
	copy io.Writer // nil: no copy

	mu      sync.Mutex
	all     []byte
	partial []byte // the line not yet ended
}

func newOutput(name string, copy io.Writer) *output {
	return &output{name: name, copy: copy}
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = append(o.all, p...)
	if len(o.all) > 2*keepOutput {
		o.all = append([]byte(nil), o.all[len(o.all)-keepOutput:]...)
	}
	o.partial = append(o.partial, p...)
	for {
		line, rest, found := bytes.Cut(o.partial, []byte("\n"))
		if !found {
			return len(p), nil
		}
		o.print(line)
		o.partial = rest
	}
}

// flush copies a last line that has no end.
func (o *output) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.partial) > 0 {
		o.print(o.partial)
		o.partial = nil
	}
}

// print copies a line in one write, so that processes do not mix theirs.
func (o *output) print(line []byte) {
	if o.copy != nil {
		io.WriteString(o.copy, o.name+"| "+string(line)+"\n")
	}
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.all)
}

// tail is the last n lines.
func (o *output) tail(n int) string {
	lines := strings.Split(strings.TrimRight(o.String(), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
