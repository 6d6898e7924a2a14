package subnet

import (
	"fmt"
	"io"
	"log/slog"
)

// Secret is a string that no log line, error or %+v shows.
type Secret string

const redacted = "***"

// Format answers every verb of fmt, also those that would not call String.
func (Secret) Format(f fmt.State, _ rune)   { io.WriteString(f, redacted) }
func (Secret) String() string               { return redacted }
func (Secret) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
