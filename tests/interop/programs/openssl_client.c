/* A TLS-PSK client on OpenSSL's C interface: openssl_client PORT IDENTITY KEY-HEX VERSION CIPHERS.
 * Sends one line of its input and prints what comes back. Builds with: cc openssl_client.c -lssl -lcrypto */
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *identity;
static unsigned char *key;
static long key_size;

static unsigned int give_psk(SSL *ssl, const char *hint, char *name, unsigned int name_room, unsigned char *psk,
                             unsigned int psk_room)
{
    (void)ssl;
    (void)hint;
    if (strlen(identity) >= name_room || key_size > (long)psk_room)
        return 0;
    strcpy(name, identity);
    memcpy(psk, key, (size_t)key_size);
    return (unsigned int)key_size;
}

int main(int count, char **arguments)
{
    if (count != 6) {
        fputs("usage: openssl_client PORT IDENTITY KEY-HEX 1.2|1.3 CIPHERS\n", stderr);
        return 2;
    }
    identity = arguments[2];
    key = OPENSSL_hexstr2buf(arguments[3], &key_size);
    int version = strcmp(arguments[4], "1.3") == 0 ? TLS1_3_VERSION : TLS1_2_VERSION;
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    int listed = version == TLS1_3_VERSION ? SSL_CTX_set_ciphersuites(context, arguments[5])
                                           : SSL_CTX_set_cipher_list(context, arguments[5]);
    if (key == NULL || listed != 1 || SSL_CTX_set_min_proto_version(context, version) != 1 ||
        SSL_CTX_set_max_proto_version(context, version) != 1)
        return 2;
    SSL_CTX_set_psk_client_callback(context, give_psk);

    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(arguments[1]))};
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    int file = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(file, (struct sockaddr *)&address, sizeof address) != 0)
        return 2;
    SSL *ssl = SSL_new(context);
    SSL_set_fd(ssl, file);
    if (SSL_connect(ssl) != 1) {
        printf("refused %s\n", ERR_reason_error_string(ERR_peek_error()));
        return 1;
    }
    printf("connected %s %s %s\n", SSL_get_version(ssl), SSL_CIPHER_standard_name(SSL_get_current_cipher(ssl)),
           SSL_session_reused(ssl) ? "psk" : "no-psk");
    char line[256];
    if (fgets(line, sizeof line, stdin) == NULL || SSL_write(ssl, line, (int)strlen(line)) <= 0)
        return 1;
    int size = SSL_read(ssl, line, sizeof line);
    if (size <= 0)
        return 1;
    printf("%.*s", size, line);
    SSL_shutdown(ssl);
    SSL_free(ssl);
    SSL_CTX_free(context);
    OPENSSL_clear_free(key, (size_t)key_size);
    return 0;
}
