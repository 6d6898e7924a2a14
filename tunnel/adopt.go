package tunnel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// A daemon that restarts can leave its queues and sockets, open, to the next one: what arrives in between waits in them. Each
// Queue and Conn is a syscall.Conn for that. OpenConfig.Adopt and ListenConfig.Adopt take them over, if they are what Open and
// Listen would have made.

// Adopt is Open by the queues that an earlier process has left. The files are the Device's, and closed if they do not fit; the
// error then says why. All settings but those that tell the queues' packets apart are made again.
func (c OpenConfig) Adopt(queues []*os.File) (_ Device, err error) {
	defer func() {
		if err != nil {
			closeFiles(queues)
		}
	}()
	if err := c.validate(); err != nil {
		return nil, err
	}
	if len(queues) != c.Queues {
		return nil, fmt.Errorf("adopt TUN device %s: %d queues are left: want %d", c.Name, len(queues), c.Queues)
	}
	d := newOffloadDevice(c)
	for i, queue := range queues {
		if err := d.checkQueue(queue); err != nil {
			return nil, fmt.Errorf("adopt TUN device %s, queue %d: %w", c.Name, i, err)
		}
	}
	if !d.anyOffload() {
		return adoptPlain(c, queues, d.tso, d.uso)
	}
	for i, queue := range queues {
		q, err := d.adoptQueue(queue)
		if err != nil {
			return nil, fmt.Errorf("adopt TUN device %s, queue %d: %w", c.Name, i, err)
		}
		d.queues = append(d.queues, q)
	}
	return d, nil
}

// DeviceName returns to which TUN device a queue belongs. The error is unix.EBADFD if the device was deleted.
func DeviceName(queue *os.File) (string, error) {
	request, err := interfaceOf(queue)
	if err != nil {
		return "", err
	}
	return request.Name(), nil
}

func interfaceOf(queue *os.File) (*unix.Ifreq, error) {
	raw, err := queue.SyscallConn()
	if err != nil {
		return nil, err
	}
	request, err := unix.NewIfreq("")
	if err != nil {
		return nil, err
	}
	err = control(raw, func(fd int) error { return unix.IoctlIfreq(fd, unix.TUNGETIFF, request) })
	return request, os.NewSyscallError("TUNGETIFF", err)
}

// checkQueue returns an error unless the queue is one that d would have opened. With another header before each packet, those that
// wait in the queue could not be read.
func (d *offloadDevice) checkQueue(queue *os.File) error {
	request, err := interfaceOf(queue)
	if err != nil {
		return err
	}
	if name := request.Name(); name != d.name {
		return fmt.Errorf("it belongs to device %s", name)
	}
	const mask = unix.IFF_TUN | unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_MULTI_QUEUE | unix.IFF_PERSIST | unix.IFF_VNET_HDR
	want := uint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_MULTI_QUEUE | unix.IFF_PERSIST)
	if d.anyOffload() {
		want |= unix.IFF_VNET_HDR
	}
	if flags := request.Uint16() & mask; flags != want {
		return fmt.Errorf("its flags are %#x: want %#x (IFF_VNET_HDR, %#x, is the offload mode)", flags, want, unix.IFF_VNET_HDR)
	}
	return nil
}

// adoptQueue is openQueue for a queue that has passed checkQueue.
func (d *offloadDevice) adoptQueue(queue *os.File) (*queue, error) {
	raw, err := queue.SyscallConn()
	if err == nil {
		err = control(raw, d.configure)
	}
	if err != nil {
		return nil, err
	}
	if !d.anyOffload() {
		return nil, errors.New("the kernel does no offload any more")
	}
	return newOffloadQueue(queue, d.tso, d.uso)
}

// adoptPlain is openPlain for queues that have passed checkQueue.
func adoptPlain(config OpenConfig, queues []*os.File, tso, uso *modeSwitch) (Device, error) {
	d := &device{name: config.Name, tso: tso, uso: uso}
	for i, queue := range queues {
		raw, err := queue.SyscallConn()
		if err == nil {
			err = control(raw, setPlain)
		}
		if err != nil {
			return nil, fmt.Errorf("adopt TUN device %s, queue %d: %w", config.Name, i, err)
		}
		q, err := newPlainQueue(queue)
		if err != nil {
			return nil, fmt.Errorf("adopt TUN device %s, queue %d: %w", config.Name, i, err)
		}
		d.queues = append(d.queues, q)
	}
	return d, nil
}

// Adopt is Listen by the sockets that an earlier process has left, in the order of its Conns. The files are taken over, and the
// error says why they do not fit. All options are set again. The sockets for further source ports are new: they receive nothing
// that could wait in them.
func (c ListenConfig) Adopt(sockets []*os.File) ([]Conn, error) {
	defer closeFiles(sockets) // each Conn has a duplicate
	if err := c.validate(); err != nil {
		return nil, err
	}
	if len(sockets) != c.Sockets {
		return nil, fmt.Errorf("adopt UDP %s: %d sockets are left: want %d", c.Address, len(sockets), c.Sockets)
	}
	modes := c.modes()
	var conns []Conn
	for i, file := range sockets {
		conn, err := adoptUDP(file, c.Address, modes)
		if err != nil {
			closeConns(conns)
			return nil, fmt.Errorf("adopt UDP %s, socket %d: %w", c.Address, i, err)
		}
		conns = append(conns, conn)
	}
	if err := openShared(conns, c.Address.Addr()); err != nil {
		closeConns(conns)
		return nil, fmt.Errorf("adopt UDP %s: %w", c.Address, err)
	}
	return conns, nil
}

// adoptUDP is listenUDP for a socket that is there already.
func adoptUDP(file *os.File, addr netip.AddrPort, modes *udpModes) (*udpConn, error) {
	packetConn, err := net.FilePacketConn(file)
	if err != nil {
		return nil, err
	}
	s, err := newSocket(packetConn)
	if err != nil {
		return nil, err
	}
	local := s.local()
	switch {
	case local.Addr() != addr.Addr(), addr.Port() != 0 && local.Port() != addr.Port():
		err = fmt.Errorf("it is bound to %s", local)
	default:
		err = control(s.raw, func(fd int) error {
			if err := checkSocket(fd, modes); err != nil {
				return err
			}
			return setOptions(fd, false, modes)
		})
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return newUDPConn(s, modes), nil
}

// checkSocket returns an error for a socket with UDP_GRO where it is off now: the groups that wait in it would be taken for single
// datagrams.
func checkSocket(fd int, modes *udpModes) error {
	if on, err := unix.GetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO); err == nil && on != 0 && !modes.gro.on() {
		return errors.New("it receives with UDP_GRO, which is off now")
	}
	return nil
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

func closeConns(conns []Conn) {
	for _, c := range conns {
		c.Close()
	}
}
