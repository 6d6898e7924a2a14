package lab

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/netip"
	"time"
)

const (
	// blockSize is the length of the random block a transfer repeats. It is
	// prime, so that no power-of-two loss goes unnoticed.
	blockSize = 262147

	// receiptSize is what the receiver answers at the end: the number of bytes
	// in 8 and their CRC-32C in 4, big endian.
	receiptSize = 8 + 4
)

// TransferResult is a transfer that arrived whole.
type TransferResult struct {
	Bytes    int64
	Duration time.Duration // from the first byte written to the receipt read
}

// BitsPerSecond is the rate of the payload.
func (r TransferResult) BitsPerSecond() float64 {
	return float64(r.Bytes) * 8 / r.Duration.Seconds()
}

// Transfer sends bytes over one TCP connection from one namespace to another and
// compares number and CRC of what was sent with what was received.
func Transfer(ctx context.Context, from, to *Namespace, bytes int64) (TransferResult, error) {
	r, err := transfer(ctx, from, to, bytes)
	if err != nil {
		return r, fmt.Errorf("transfer of %d bytes from %s to %s: %w", bytes, from.Name, to.Name, err)
	}
	return r, nil
}

func transfer(ctx context.Context, from, to *Namespace, bytes int64) (r TransferResult, err error) {
	var listener *net.TCPListener
	err = to.Do(func() error {
		listener, err = net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.AddrPortFrom(to.Addr(), 0)))
		return err
	})
	if err != nil {
		return r, err
	}
	defer listener.Close()
	go receive(listener)

	var conn net.Conn
	err = from.Do(func() error {
		conn, err = new(net.Dialer).DialContext(ctx, "tcp4", listener.Addr().String())
		return err
	})
	if err != nil {
		return r, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()

	begin := time.Now()
	if err := send(conn.(*net.TCPConn), bytes); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return r, err
	}
	return TransferResult{Bytes: bytes, Duration: time.Since(begin)}, nil
}

// send writes the bytes, ends its direction and checks the receipt.
func send(conn *net.TCPConn, bytes int64) error {
	block := make([]byte, blockSize)
	fill(block, uint64(bytes))
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	for left := bytes; left > 0; {
		chunk := block[:min(left, blockSize)]
		sum.Write(chunk)
		if _, err := conn.Write(chunk); err != nil {
			return err
		}
		left -= int64(len(chunk))
	}
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	var receipt [receiptSize]byte
	if _, err := io.ReadFull(conn, receipt[:]); err != nil {
		return fmt.Errorf("read the receipt: %w", err)
	}
	gotBytes, gotSum := binary.BigEndian.Uint64(receipt[:]), binary.BigEndian.Uint32(receipt[8:])
	if gotBytes != uint64(bytes) || gotSum != sum.Sum32() {
		return fmt.Errorf("sent %d bytes with CRC %08x, but %d with CRC %08x arrived", bytes, sum.Sum32(), gotBytes, gotSum)
	}
	return nil
}

// receive takes one connection, reads it to its end and answers with a receipt.
// What goes wrong here, the sender sees as a missing receipt.
func receive(listener *net.TCPListener) {
	conn, err := listener.Accept()
	if err != nil {
		return
	}
	defer conn.Close()
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	// A bare reader: TCPConn's own WriteTo would ignore the large buffer.
	n, err := io.CopyBuffer(sum, struct{ io.Reader }{conn}, make([]byte, blockSize))
	if err != nil {
		return
	}
	var receipt [receiptSize]byte
	binary.BigEndian.PutUint64(receipt[:], uint64(n))
	binary.BigEndian.PutUint32(receipt[8:], sum.Sum32())
	conn.Write(receipt[:])
}
