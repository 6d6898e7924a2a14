package api

// LogLevelPath answers GET, and PUT with ?level=, which sets it, with a LogLevel.
const LogLevelPath = "/v1/log-level"

// LogLevel is from which level on the daemon logs: debug, info, warn or error.
type LogLevel struct {
	Schema int    `json:"schema"` // number of the schema: the constant Schema
	Level  string `json:"level"`  // debug, info, warn or error
}
