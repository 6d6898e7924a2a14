package tunnel

import (
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// left returns a duplicate of a descriptor, as a process that has ended leaves one.
func left(t *testing.T, c interface{ File() (*os.File, error) }) *os.File {
	t.Helper()
	f, err := c.File()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// What waits in a socket is received by the process that adopts it.
func TestAdoptedSocketsHaveWhatWaited(t *testing.T) {
	for _, offloads := range []Offloads{{}, AllOffloads} {
		t.Run(offloads.String(), func(t *testing.T) {
			config := ListenConfig{Address: anyPort, Sockets: 2, Offloads: offloads}
			former, err := config.Listen()
			if err != nil {
				t.Fatal(err)
			}
			config.Address = former[0].LocalAddr()
			var files []*os.File
			for _, c := range former {
				files = append(files, left(t, c.(*udpConn)))
			}
			closeConns(former)
			client, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(config.Address))
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			if _, err := client.Write([]byte("waits")); err != nil {
				t.Fatal(err)
			}
			conns, err := config.Adopt(files)
			if err != nil {
				t.Fatal(err)
			}
			defer closeConns(conns)
			received := make(chan string, len(conns))
			for _, c := range conns {
				go func() {
					if datagrams, err := c.Receive(); err == nil {
						received <- string(datagrams[0].Data)
					}
				}()
			}
			if got := <-received; got != "waits" { // by one of them, which the kernel chooses
				t.Errorf("received %q, want what was sent before the sockets were adopted", got)
			}
			if got := conns[0].SourcePorts(); got != 2 {
				t.Errorf("%d source ports, want 2", got)
			}
		})
	}
}

func TestSocketsThatDoNotFit(t *testing.T) {
	address := netip.MustParseAddrPort("127.0.0.1:8285")
	for _, tt := range []struct {
		name string
		file func(t *testing.T) *os.File
		want string
	}{
		{"no socket", func(t *testing.T) *os.File {
			f, err := os.Open(os.DevNull)
			if err != nil {
				t.Fatal(err)
			}
			return f
		}, "socket operation on non-socket"},
		{"another kind of socket", func(t *testing.T) *os.File {
			c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "@" + t.Name(), Net: "unixgram"})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			return left(t, c)
		}, "want a UDP socket"},
		{"another address", func(t *testing.T) *os.File {
			c, err := net.ListenPacket("udp4", "127.0.0.1:8286")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			return left(t, c.(*net.UDPConn))
		}, "it is bound to 127.0.0.1:8286"},
		{"UDP_GRO", func(t *testing.T) *os.File {
			c := listenWith(t, address, Offloads{UDPGRO: true})
			defer c.Close()
			return left(t, c)
		}, "it receives with UDP_GRO"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := tt.file(t)
			_, err := ListenConfig{Address: address, Sockets: 1}.Adopt([]*os.File{file})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
			if err := file.Close(); err == nil {
				t.Error("the file was left open")
			}
			conns, err := ListenConfig{Address: address, Sockets: 1}.Listen()
			if err != nil {
				t.Fatalf("after that the address is not free: %v", err)
			}
			closeConns(conns)
		})
	}
}

func TestQueueThatIsNone(t *testing.T) {
	file, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DeviceName(file); err == nil {
		t.Error("a file that is no TUN queue has a device's name")
	}
	_, err = OpenConfig{Name: "none0", Queues: 1, Offloads: AllOffloads}.Adopt([]*os.File{file})
	if err == nil || !strings.Contains(err.Error(), unix.ENOTTY.Error()) {
		t.Errorf("got %v, want %v", err, unix.ENOTTY)
	}
	if err := file.Close(); err == nil {
		t.Error("the file was left open")
	}
}
