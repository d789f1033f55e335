// Vault's own core with the two engines the pipeline needs (transit, AppRole) and file storage: the complete
// server takes eight minutes to build, this takes a quarter of that and answers the same HTTP API.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	log "github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/logical/transit"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/file"
	"github.com/hashicorp/vault/vault"
)

// engines is the whole catalogue of plugins. Core panics on mounting without one.
type engines map[consts.PluginType]map[string]logical.Factory

var catalogue = engines{
	consts.PluginTypeSecrets:    {"transit": transit.Factory},
	consts.PluginTypeCredential: {"approle": approle.Factory},
}

func (e engines) Contains(name string, kind consts.PluginType) bool {
	_, found := e[kind][name]
	return found
}

func (e engines) Get(name string, kind consts.PluginType) (func() (interface{}, error), bool) {
	factory, found := e[kind][name]
	return func() (interface{}, error) { return factory, nil }, found
}

func (e engines) Keys(kind consts.PluginType) []string {
	names := make([]string, 0, len(e[kind]))
	for name := range e[kind] {
		names = append(names, name)
	}
	return names
}

func (e engines) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, e.Contains(name, kind)
}

func (e engines) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }

func run() error {
	address := flag.String("listen", "", "loopback address and port, e.g. 127.0.0.1:8200")
	data := flag.String("data", "", "folder of the encrypted storage")
	certificate := flag.String("certificate", "", "PEM file of the server's certificate; none: no TLS")
	key := flag.String("key", "", "PEM file of its key")
	flag.Parse()
	host, _, err := net.SplitHostPort(*address)
	if err != nil || !net.ParseIP(host).IsLoopback() {
		return fmt.Errorf("-listen must be a loopback address with a port, got %q", *address)
	}
	scheme := "http"
	if *certificate != "" {
		scheme = "https"
	}
	logger := log.New(&log.LoggerOptions{Name: "vault", Level: log.Info, Output: os.Stderr})
	storage, err := file.NewFileBackend(map[string]string{"path": *data}, logger)
	if err != nil {
		return err
	}
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical:           storage,
		StorageType:        "file",
		BuiltinRegistry:    catalogue,
		LogicalBackends:    catalogue[consts.PluginTypeSecrets],
		CredentialBackends: catalogue[consts.PluginTypeCredential],
		DisableMlock:       true,
		Logger:             logger,
		LogLevel:           "info",
		DefaultLeaseTTL:    time.Hour,
		MaxLeaseTTL:        24 * time.Hour,
		RedirectAddr:       scheme + "://" + *address,
	})
	if err != nil {
		return err
	}
	listener, err := listen(*address, *certificate, *key)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler: vaulthttp.Handler.Handler(&vault.HandlerProperties{
			Core:           core,
			ListenerConfig: &configutil.Listener{Type: "tcp", Address: *address},
		}),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       5 * time.Minute,
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err = <-failed:
		return err
	case <-ctx.Done():
	}
	deadline, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err = server.Shutdown(deadline); err != nil {
		return err
	}
	return core.Shutdown()
}

// listen speaks TLS 1.3 and nothing else if there is a certificate.
func listen(address, certificate, key string) (net.Listener, error) {
	if certificate == "" {
		return net.Listen("tcp", address)
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return nil, err
	}
	return tls.Listen("tcp", address, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13})
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "vault:", err)
		os.Exit(1)
	}
}
