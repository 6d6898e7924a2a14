package daemon

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// The control socket's mode keeps strangers out. That each client is asked who
// it is, too, holds against a socket file that was made open, bound into a
// container or handed on.

// credentialsKey is the context key of a connection's credentials.
type credentialsKey struct{}

// credentials say who a client is: those of its process when it connected.
type credentials struct {
	uid    uint32
	groups []uint32
	err    error // they could not be read
}

// withCredentials is an http.Server's ConnContext.
func withCredentials(ctx context.Context, conn net.Conn) context.Context {
	var c credentials
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { c, c.err = readCredentials(int(fd)) })
	}
	if err != nil {
		c.err = err
	}
	return context.WithValue(ctx, credentialsKey{}, c)
}

func readCredentials(fd int) (credentials, error) {
	ucred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return credentials{}, os.NewSyscallError("SO_PEERCRED", err)
	}
	groups, err := peerGroups(fd)
	return credentials{uid: ucred.Uid, groups: append(groups, ucred.Gid)}, err
}

// allowed says whether a client may ask: root, the daemon's own user, and the
// group of the socket.
func (c credentials) allowed(self, socketGroup uint32) bool {
	return c.err == nil && (c.uid == 0 || c.uid == self || slices.Contains(c.groups, socketGroup))
}

// onlyAllowed lets the clients that are allowed through to h. path is the
// socket's.
func onlyAllowed(path string, h http.Handler) (http.Handler, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	group := info.Sys().(*syscall.Stat_t).Gid
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, ok := r.Context().Value(credentialsKey{}).(credentials)
		if !ok || !c.allowed(uint32(os.Geteuid()), group) {
			http.Error(w, fmt.Sprintf("user %d may not ask this daemon: want root, its own user, or a member of group %d", c.uid, group), http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	}), nil
}
