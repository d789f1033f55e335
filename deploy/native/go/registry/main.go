// A Schema Registry with the Confluent REST API for development: franz-go's in-memory registry, kept in a state file.
//
// The file is written before a change is answered, so an id that a client has seen means the same schema after a
// restart. Nothing is ever forgotten: permanent deletes are refused, because a freed id would be given out again.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"
)

// maxBody bounds one request; the largest schema of a real registry is far below it.
const maxBody = 1 << 20

type entry struct {
	sr.SubjectSchema
	Deleted bool `json:"deleted"`
}

type snapshot struct {
	Compatibility string            `json:"compatibility"`
	Subjects      map[string]string `json:"subjectCompatibility"`
	Schemas       []entry           `json:"schemas"`
}

// store serialises changes: apply to the registry in memory, write the file, then answer.
type store struct {
	mu       sync.Mutex
	registry *srfake.Registry
	path     string
	// order holds "subject/version" as they were registered, which is an order in which they can be registered again:
	// a referenced schema before the one that refers to it, the versions of a subject ascending.
	order map[string]int
}

func key(schema sr.SubjectSchema) string { return fmt.Sprintf("%s/%d", schema.Subject, schema.Version) }

// call runs one request against the registry itself, without a socket.
func (s *store) call(method, target string, body []byte) *httptest.ResponseRecorder {
	response := httptest.NewRecorder()
	s.registry.Handler().ServeHTTP(response, httptest.NewRequest(method, target, bytes.NewReader(body)))
	return response
}

func (s *store) get(target string, into any) error {
	response := s.call(http.MethodGet, target, nil)
	if response.Code != http.StatusOK {
		return fmt.Errorf("GET %s: %d", target, response.Code)
	}
	return json.Unmarshal(response.Body.Bytes(), into)
}

func (s *store) put(target, level string) error {
	body, err := json.Marshal(map[string]string{"compatibility": level})
	if err != nil {
		return err
	}
	if response := s.call(http.MethodPut, target, body); response.Code != http.StatusOK {
		return fmt.Errorf("PUT %s: %d %s", target, response.Code, response.Body)
	}
	return nil
}

func (s *store) save() error {
	var all, live []sr.SubjectSchema
	if err := errors.Join(s.get("/schemas?deleted=true", &all), s.get("/schemas", &live)); err != nil {
		return err
	}
	alive := map[string]bool{}
	for _, schema := range live {
		alive[key(schema)] = true
	}
	var config struct {
		Compatibility string `json:"compatibilityLevel"`
	}
	if err := s.get("/config", &config); err != nil {
		return err
	}
	state := snapshot{Compatibility: config.Compatibility, Subjects: map[string]string{}, Schemas: []entry{}}
	for _, schema := range all {
		if _, known := s.order[key(schema)]; !known {
			s.order[key(schema)] = len(s.order)
		}
		state.Schemas = append(state.Schemas, entry{schema, !alive[key(schema)]})
		// A subject without a level of its own answers the global one, or 404.
		if s.get("/config/"+url.PathEscape(schema.Subject), &config) == nil && config.Compatibility != state.Compatibility {
			state.Subjects[schema.Subject] = config.Compatibility
		}
	}
	sort.Slice(state.Schemas, func(i, j int) bool {
		return s.order[key(state.Schemas[i].SubjectSchema)] < s.order[key(state.Schemas[j].SubjectSchema)]
	})
	data, err := json.MarshalIndent(state, "", "  ")
	if err != nil {
		return err
	}
	return replace(s.path, data)
}

// replace writes path so that a crash leaves either the old or the new content.
func replace(path string, data []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".registry-*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(data)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

func (s *store) load() error {
	data, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var state snapshot
	if err = json.Unmarshal(data, &state); err != nil {
		return fmt.Errorf("%s: %w", s.path, err)
	}
	seeded := map[int]bool{}
	for position, schema := range state.Schemas {
		s.order[key(schema.SubjectSchema)] = position
		if !seeded[schema.ID] {
			s.registry.SeedSchema(schema.Subject, schema.Version, schema.ID, schema.Schema)
			seeded[schema.ID] = true
			continue
		}
		// A schema that two subjects share has one id: registering it again finds that id.
		id, version, err := s.registry.RegisterSchema(schema.Subject, schema.Schema)
		if err != nil || id != schema.ID || version != schema.Version {
			return fmt.Errorf("%s: %s version %d came back as id %d version %d: %v",
				s.path, schema.Subject, schema.Version, id, version, err)
		}
	}
	for _, schema := range state.Schemas {
		if schema.Deleted {
			s.call(http.MethodDelete, fmt.Sprintf("/subjects/%s/versions/%d", url.PathEscape(schema.Subject), schema.Version), nil)
		}
	}
	if state.Compatibility != "" {
		if err = s.put("/config", state.Compatibility); err != nil {
			return err
		}
	}
	for subject, level := range state.Subjects {
		if err = s.put("/config/"+url.PathEscape(subject), level); err != nil {
			return err
		}
	}
	return nil
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead || strings.HasPrefix(r.URL.Path, "/compatibility/") {
		s.registry.Handler().ServeHTTP(w, r)
		return
	}
	if r.Method == http.MethodDelete && r.URL.Query().Get("permanent") == "true" {
		http.Error(w, `{"error_code":405,"message":"permanent deletes are refused: the id would be reused"}`, http.StatusMethodNotAllowed)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	s.mu.Lock()
	defer s.mu.Unlock()
	response := httptest.NewRecorder()
	s.registry.Handler().ServeHTTP(response, r)
	if response.Code < 300 {
		if err := s.save(); err != nil {
			fmt.Fprintln(os.Stderr, "registry: cannot write the state file:", err)
			http.Error(w, `{"error_code":50001,"message":"the registry cannot write its state"}`, http.StatusInternalServerError)
			return
		}
	}
	for name, values := range response.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(response.Code)
	w.Write(response.Body.Bytes())
}

func run() error {
	address := flag.String("listen", "", "loopback address and port, e.g. 127.0.0.1:8081")
	path := flag.String("state", "", "state file (JSON)")
	certificate := flag.String("certificate", "", "PEM file of the server's certificate; none: no TLS")
	key := flag.String("key", "", "PEM file of its key")
	flag.Parse()
	host, _, err := net.SplitHostPort(*address)
	if err != nil || !net.ParseIP(host).IsLoopback() {
		return fmt.Errorf("-listen must be a loopback address with a port, got %q", *address)
	}
	registry := &store{registry: srfake.NewRegistry(), path: *path, order: map[string]int{}}
	if err = registry.load(); err != nil {
		return err
	}
	listener, err := listen(*address, *certificate, *key)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: registry, ReadTimeout: 15 * time.Second, IdleTimeout: 5 * time.Minute}
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
	return server.Shutdown(deadline)
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
		fmt.Fprintln(os.Stderr, "registry:", err)
		os.Exit(1)
	}
}
