// Reads tar archives as Go does and prints what is in them: one record an entry, ended by NUL, each archive ended by an
// empty record. The fields are kind, mode, name, link, size and the SHA-256 of the content, divided by "|".
package main

import (
	"archive/tar"
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
)

func read(path string, out *bufio.Writer) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	archive := tar.NewReader(bufio.NewReader(file))
	for {
		header, err := archive.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if header.Uid != 0 || header.Gid != 0 || header.Uname != "" || header.Gname != "" || header.ModTime.Unix() != 315619200 {
			return fmt.Errorf("%q: owner %d:%d %q:%q, time %d", header.Name, header.Uid, header.Gid, header.Uname, header.Gname, header.ModTime.Unix())
		}
		digest := ""
		if header.Typeflag == tar.TypeReg {
			hash := sha256.New()
			if _, err := io.Copy(hash, archive); err != nil {
				return err
			}
			digest = hex.EncodeToString(hash.Sum(nil))
		}
		fmt.Fprintf(out, "%c|%04o|%s|%s|%d|%s\x00", header.Typeflag, header.Mode, header.Name, header.Linkname, header.Size, digest)
	}
}

func main() {
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for _, path := range os.Args[1:] {
		if err := read(path, out); err != nil {
			out.Flush()
			fmt.Fprintf(os.Stderr, "%s: %v\n", path, err)
			os.Exit(1)
		}
		out.WriteByte(0)
	}
}
