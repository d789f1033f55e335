// VictoriaLogs with what a local stack needs of it: log lines come in over HTTP, and questions are answered in LogsQL.
package main

import (
	"net/http"
	"os"

	"github.com/VictoriaMetrics/VictoriaLogs/app/vlinsert"
	"github.com/VictoriaMetrics/VictoriaLogs/app/vlinsert/insertutil"
	"github.com/VictoriaMetrics/VictoriaLogs/app/vlselect"
	"github.com/VictoriaMetrics/VictoriaLogs/app/vlstorage"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/envflag"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/flagutil"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/httpserver"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/logger"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/procutil"
)

var addresses = flagutil.NewArrayString("httpListenAddr", "Where requests are answered")

func handle(answer http.ResponseWriter, request *http.Request) bool {
	return vlinsert.RequestHandler(answer, request) ||
		vlselect.RequestHandler(answer, request) ||
		vlstorage.RequestHandler(answer, request)
}

func main() {
	envflag.Parse()
	logger.Init()
	if len(*addresses) == 0 {
		logger.Errorf("-httpListenAddr is not given")
		os.Exit(2)
	}
	vlstorage.Init()
	vlselect.Init()
	insertutil.SetLogRowsStorage(&vlstorage.Storage{})
	vlinsert.Init()
	go httpserver.Serve(*addresses, handle, httpserver.ServeOptions{})
	procutil.WaitForSigterm()
	if err := httpserver.Stop(*addresses); err != nil {
		logger.Errorf("the server did not stop in good order: %s", err)
	}
	vlinsert.Stop()
	vlselect.Stop()
	vlstorage.Stop()
}
