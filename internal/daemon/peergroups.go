package daemon

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxGroups is NGROUPS_MAX of limits.h.
const maxGroups = 65536

// peerGroups returns the supplementary groups of the process at the other end
// of a Unix socket, SO_PEERGROUPS of unix(7), for which x/sys has no function.
func peerGroups(fd int) ([]uint32, error) {
	groups := make([]uint32, 64)
	for {
		size := uint32(len(groups) * 4)
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(unsafe.SliceData(groups))), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno == 0:
			return groups[:size/4], nil
		case errno != unix.ERANGE || len(groups) >= maxGroups:
			return nil, os.NewSyscallError("SO_PEERGROUPS", errno)
		}
		groups = make([]uint32, maxGroups)
	}
}
