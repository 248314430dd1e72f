import { mkdirSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { TLS } from '../certificates.ts';
import { freePorts } from '../port.ts';
import { toolPath } from '../tools.ts';
import type { Pair } from './pair.ts';

/** Each upstream connection of nginx carries one call at a time, so it keeps many; nothing is closed by count or age. */
const config = (folder: string, user: string, upstreamPort: number, server: string, location: string) => `
${user}
daemon off;
worker_processes 1;
pid ${folder}/nginx.pid;
error_log stderr error;
events { worker_connections 8192; }
http {
  access_log off;
  server_tokens off;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
  http2_max_concurrent_streams 4096;
  http2_body_preread_size 1m;
  client_body_buffer_size 1m;
  http2_chunk_size 16k;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  upstream next {
    server 127.0.0.1:${upstreamPort};
    keepalive 2048;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    keepalive_time 24h;
  }
  server {
    ${server}
    keepalive_time 24h;
    client_max_body_size 0;
    location / {
      ${location}
      grpc_read_timeout 1h;
      grpc_send_timeout 1h;
      grpc_buffer_size 16k;
    }
  }
}
`;

export const nginx: Pair = {
  name: 'nginx',
  async start({ folder, backendPort, processes, tools, certificates }) {
    const { ca, a, b } = certificates();
    const [portA, portB] = await freePorts(2);
    const { uid, username } = userInfo();
    const user = uid === 0 ? `user ${username};` : ''; // else it warns that only root can change its user
    const start = (name: string, upstreamPort: number, server: string, location: string, port: number) => {
      const own = join(folder, name);
      mkdirSync(own);
      const file = join(own, 'nginx.conf');
      writeFileSync(file, config(own, user, upstreamPort, server, location));
      const args = ['-p', own, '-c', file, '-e', 'stderr'];
      return processes.start(`nginx-${name}`, toolPath(tools, 'nginx'), args, port);
    };
    const pidB = await start(
      'b',
      backendPort,
      `listen 127.0.0.1:${portB} ssl http2;
    ssl_certificate ${b.certificate};
    ssl_certificate_key ${b.key};
    ssl_client_certificate ${ca};
    ssl_verify_client on;
    ssl_protocols ${TLS.version};
    ssl_conf_command Ciphersuites ${TLS.cipher};
    ssl_ecdh_curve ${TLS.group};`,
      'grpc_pass grpc://next;',
      portB,
    );
    const pidA = await start(
      'a',
      portB,
      `listen 127.0.0.1:${portA} http2;`,
      `grpc_pass grpcs://next;
      grpc_ssl_certificate ${a.certificate};
      grpc_ssl_certificate_key ${a.key};
      grpc_ssl_trusted_certificate ${ca};
      grpc_ssl_verify on;
      grpc_ssl_name ${b.name};
      grpc_ssl_server_name on;
      grpc_ssl_protocols ${TLS.version};
      grpc_ssl_conf_command Ciphersuites ${TLS.cipher};`,
      portA,
    );
    return { name: 'nginx', port: portA, between: { port: portB, protocol: 'tls' }, pids: [pidA, pidB] };
  },
};
