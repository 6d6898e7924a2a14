package subnet

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// unmarshal is json.Unmarshal with errors in the words of the document's author: the field as
// it is spelled in the documentation and the kind of value it wants, not a Go type.
func unmarshal(raw []byte, v any) error {
	err := json.Unmarshal(raw, v)
	var wrongType *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &wrongType):
		field := wrongType.Field
		if field == "" {
			field = "document"
		}
		return fmt.Errorf("%s: got a JSON %.64s, want %s", field, wrongType.Value, jsonKind(wrongType.Type))
	case errors.As(err, &syntax):
		return fmt.Errorf("invalid JSON at byte %d: %w", syntax.Offset, err)
	}
	return err
}

func jsonKind(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Struct, reflect.Map:
		return "an object"
	default:
		return "a whole number"
	}
}

// joinLine is errors.Join on one line, for messages that go to a log.
func joinLine(errs ...error) error {
	var texts []string
	for _, err := range errs {
		if err != nil {
			texts = append(texts, err.Error())
		}
	}
	if texts == nil {
		return nil
	}
	return errors.New(strings.Join(texts, "; "))
}
