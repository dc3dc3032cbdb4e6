// Says what kstatus, the library by which Flux, kpt and others wait for resources, makes of each object of a JSON list on
// standard input: a JSON list of {status, message} on standard output.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type verdict struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

func main() {
	if err := judge(); err != nil {
		fmt.Fprintln(os.Stderr, "kstatus:", err)
		os.Exit(1)
	}
}

func judge() error {
	var objects []json.RawMessage
	if err := json.NewDecoder(os.Stdin).Decode(&objects); err != nil {
		return fmt.Errorf("standard input: %w", err)
	}
	verdicts := make([]verdict, 0, len(objects))
	for i, object := range objects {
		// Read as clients of Kubernetes read it: a generation that is no int64 would be taken for none.
		read := &unstructured.Unstructured{}
		if err := read.UnmarshalJSON(object); err != nil {
			return fmt.Errorf("object %d: %w", i, err)
		}
		result, err := status.Compute(read)
		if err != nil {
			return fmt.Errorf("object %d: %w", i, err)
		}
		verdicts = append(verdicts, verdict{Status: result.Status.String(), Message: result.Message})
	}
	return json.NewEncoder(os.Stdout).Encode(verdicts)
}
