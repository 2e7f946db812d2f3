// As MySQL 8 does it by default, clients log in by caching_sha2_password: for the tests. What they ask for then is asked
// of a MariaDB behind this, which knows no such login. By TLS and without it, on the same port.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"log"
	"net"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/server"
)

var (
	listen   = flag.String("listen", "", "address")
	behind   = flag.String("behind", "", "address of the MariaDB, where root has no password")
	database = flag.String("database", "", "its database")
	user     = flag.String("user", "", "who may log in")
	password = flag.String("password", "", "and by what")
	file     = flag.String("certificate", "", "of the server, with an RSA key, which is the one for passwords as well")
	key      = flag.String("key", "", "its key")
)

// session hands on what one client asks for, after its login.
type session struct {
	server.EmptyHandler
	behind *client.Conn
}

func (s session) UseDB(name string) error { return s.behind.UseDB(name) }

func (s session) HandleQuery(query string) (*mysql.Result, error) { return s.behind.Execute(query) }

func main() {
	flag.Parse()
	certificate, err := tls.LoadX509KeyPair(*file, *key)
	check(err)
	parsed, err := x509.ParseCertificate(certificate.Certificate[0])
	check(err)
	public, err := x509.MarshalPKIXPublicKey(parsed.PublicKey)
	check(err)
	front := server.NewServer(
		"8.4.0",
		mysql.DEFAULT_COLLATION_ID,
		mysql.AUTH_CACHING_SHA2_PASSWORD,
		pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}),
		&tls.Config{Certificates: []tls.Certificate{certificate}},
	)
	users := server.NewInMemoryProvider()
	users.AddUser(*user, *password)
	listener, err := net.Listen("tcp", *listen)
	check(err)
	for {
		connection, err := listener.Accept()
		check(err)
		go serve(front, users, connection)
	}
}

func serve(front *server.Server, users server.CredentialProvider, connection net.Conn) {
	defer connection.Close()
	store, err := client.Connect(*behind, "root", "", *database)
	if err != nil {
		log.Print(err)
		return
	}
	defer store.Close()
	session, err := server.NewCustomizedConn(connection, front, users, session{behind: store})
	if err != nil {
		log.Print(err)
		return
	}
	for !session.Closed() {
		if err := session.HandleCommand(); err != nil {
			return
		}
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
