// FerretDB (the MongoDB wire protocol on PostgreSQL) from its embeddable package, on one loopback address.
// The PostgreSQL address holds a password and therefore comes by environment, never by argument.
//
// FerretDB's own TLS listener sets no lowest version (internal/util/tlsutil). With a certificate this program ends TLS 1.3 itself, and
// FerretDB listens on a socket of its own folder.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/FerretDB/FerretDB/ferretdb"
)

const (
	// handshakeLimit bounds a stranger's TLS handshake.
	handshakeLimit = 10 * time.Second
	// acceptPause is for when the process is out of files.
	acceptPause = 100 * time.Millisecond
)

func run() error {
	address := flag.String("listen", "", "loopback address and port, e.g. 127.0.0.1:27017")
	certificate := flag.String("certificate", "", "PEM file of the server's certificate; none: no TLS")
	key := flag.String("key", "", "PEM file of its key")
	socket := flag.String("socket", "", "where FerretDB itself listens behind TLS")
	flag.Parse()
	host, _, err := net.SplitHostPort(*address)
	if err != nil || !net.ParseIP(host).IsLoopback() {
		return fmt.Errorf("-listen must be a loopback address with a port, got %q", *address)
	}
	inside := ferretdb.ListenerConfig{TCP: *address}
	var outside net.Listener
	if *certificate != "" {
		if outside, err = secured(*address, *certificate, *key); err != nil {
			return err
		}
		// A killed server leaves its socket behind.
		if err = os.Remove(*socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		inside = ferretdb.ListenerConfig{Unix: *socket}
	}
	server, err := ferretdb.New(&ferretdb.Config{
		Listener:      inside,
		Logger:        slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Handler:       "postgresql",
		PostgreSQLURL: os.Getenv("FERRETDB_POSTGRESQL_URL"),
	})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if outside != nil {
		go forward(ctx, outside, *socket)
	}
	return server.Run(ctx)
}

func secured(address, certificate, key string) (net.Listener, error) {
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return nil, err
	}
	return tls.Listen("tcp", address, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13})
}

// forward hands each conversation on to FerretDB's socket until ctx is done.
func forward(ctx context.Context, outside net.Listener, socket string) {
	context.AfterFunc(ctx, func() { outside.Close() })
	for {
		client, err := outside.Accept()
		switch {
		case err == nil:
			go converse(ctx, client.(*tls.Conn), socket)
		case ctx.Err() != nil:
			return
		default:
			time.Sleep(acceptPause)
		}
	}
}

// converse ends when either side does.
func converse(ctx context.Context, client *tls.Conn, socket string) {
	defer client.Close()
	limited, done := context.WithTimeout(ctx, handshakeLimit)
	err := client.HandshakeContext(limited)
	done()
	if err != nil {
		return
	}
	server, err := net.Dial("unix", socket)
	if err != nil {
		return
	}
	defer server.Close()
	ended := make(chan struct{}, 2)
	pass := func(to io.Writer, from io.Reader) {
		io.Copy(to, from)
		ended <- struct{}{}
	}
	go pass(server, client)
	go pass(client, server)
	<-ended
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "ferretdb:", err)
		os.Exit(1)
	}
}
