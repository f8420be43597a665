// A DTLS-PSK peer on pion: pion_peer client|server PORT IDENTITY KEY-HEX SUITE. The server prints its port and echoes; the
// client sends each line of its input as a datagram and prints what comes back. Extended master secret is required.
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/pion/dtls/v2"
)

var suites = map[string]dtls.CipherSuiteID{
	"PSK-AES128-GCM-SHA256": dtls.TLS_PSK_WITH_AES_128_GCM_SHA256,
	"PSK-AES128-CCM8":       dtls.TLS_PSK_WITH_AES_128_CCM_8,
}

func fail(err error) {
	fmt.Println("refused", err)
	os.Exit(1)
}

func serve(conn net.Conn) {
	buffer := make([]byte, 8192)
	for {
		count, err := conn.Read(buffer)
		if err != nil {
			return
		}
		conn.Write(buffer[:count])
	}
}

func main() {
	port, _ := strconv.Atoi(os.Args[2])
	key, err := hex.DecodeString(os.Args[4])
	if err != nil {
		fail(err)
	}
	config := &dtls.Config{
		PSK:                  func([]byte) ([]byte, error) { return key, nil },
		PSKIdentityHint:      []byte(os.Args[3]),
		CipherSuites:         []dtls.CipherSuiteID{suites[os.Args[5]]},
		ExtendedMasterSecret: dtls.RequireExtendedMasterSecret,
		ConnectContextMaker: func() (context.Context, func()) {
			return context.WithTimeout(context.Background(), 5*time.Second)
		},
	}
	address := &net.UDPAddr{IP: net.ParseIP("127.0.0.1"), Port: port}
	if os.Args[1] == "server" {
		listener, err := dtls.Listen("udp", address, config)
		if err != nil {
			fail(err)
		}
		fmt.Println("listening", listener.Addr().(*net.UDPAddr).Port)
		for {
			conn, err := listener.Accept()
			if err != nil {
				fmt.Println("refused", err)
				continue
			}
			fmt.Println("accepted", conn.(*dtls.Conn).ConnectionState().IdentityHint)
			go serve(conn)
		}
	}
	conn, err := dtls.Dial("udp", address, config)
	if err != nil {
		fail(err)
	}
	fmt.Println("connected")
	buffer := make([]byte, 8192)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		conn.Write(lines.Bytes())
		count, err := conn.Read(buffer)
		if err != nil {
			fail(err)
		}
		fmt.Println("echo", string(buffer[:count]))
	}
	conn.Close()
}
