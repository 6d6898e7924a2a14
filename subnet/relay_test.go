package subnet

import (
	"net"
	"sync"
	"testing"
)

// relay is a TCP connection between one node and etcd that can fail.
type relay struct {
	address string // of this end
	target  string

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool
	silent   chan struct{} // closed: answers pass
}

func newRelay(t *testing.T, target string) *relay {
	t.Helper()
	r := &relay{target: target, address: "127.0.0.1:0", conns: map[net.Conn]bool{}, silent: make(chan struct{})}
	close(r.silent)
	if err := r.listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.hush(false)
		r.cut()
	})
	return r
}

func (r *relay) url() string { return "http://" + r.address }

func (r *relay) listen() error {
	l, err := net.Listen("tcp4", r.address)
	if err != nil {
		return err
	}
	r.address = l.Addr().String()
	r.listener = l
	go r.accept(l)
	return nil
}

func (r *relay) accept(l net.Listener) {
	for {
		near, err := l.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp4", r.target)
		if err != nil {
			near.Close()
			continue
		}
		r.mu.Lock()
		r.conns[near], r.conns[far] = true, true
		r.mu.Unlock()
		go r.carry(far, near, false)
		go r.carry(near, far, true)
	}
}

// carry copies from src to dst; answers wait while the relay is silent.
func (r *relay) carry(dst, src net.Conn, answers bool) {
	defer dst.Close()
	defer src.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		if err != nil {
			return
		}
		if answers {
			r.mu.Lock()
			silent := r.silent
			r.mu.Unlock()
			<-silent
		}
		if _, err := dst.Write(buf[:n]); err != nil {
			return
		}
	}
}

// cut ends every connection and refuses new ones, until mend.
func (r *relay) cut() {
	r.listener.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		c.Close()
	}
	clear(r.conns)
}

func (r *relay) mend() {
	if err := r.listen(); err != nil {
		panic(err) // the port was ours a moment ago
	}
}

// hush holds back all answers; requests pass on.
func (r *relay) hush(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.silent:
		if on {
			r.silent = make(chan struct{})
		}
	default:
		if !on {
			close(r.silent)
		}
	}
}
