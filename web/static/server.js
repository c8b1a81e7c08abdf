// Requests of the page to the server.

export class Refusal extends Error {
  constructor(status, message, retrySeconds) {
    super(message);
    this.status = status;
    this.retrySeconds = retrySeconds;
  }
}

// The server, or a proxy before it, may answer again soon.
export const isTemporary = (error) => [0, 502, 503, 504].includes(error.status);

const json = (response) => response.json();
const bytes = (response) => response.arrayBuffer();

export class Server {
  constructor(results, messages) {
    this.results = results;
    this.messages = messages;
    this.token = document.querySelector("[name=csrfmiddlewaretoken]").value;
  }

  async list() {
    return (await this.#request(this.results, {}, json)).results;
  }

  async send(file) {
    const address = `${this.results}?${new URLSearchParams({ name: file.name })}`;
    const headers = { "Content-Type": "application/octet-stream" };
    return this.#request(address, { method: "POST", body: file, headers }, json);
  }

  async picture(result) {
    return createImageBitmap(await this.#request(`${result.url}picture`, {}, (response) => response.blob()));
  }

  // NaN outside the field of view.
  async probability(result) {
    return new Float32Array(await this.#request(`${result.url}probability`, {}, bytes));
  }

  // 0 to 255 for each pixel.
  async disagreement(result) {
    return new Uint8Array(await this.#request(`${result.url}disagreement`, {}, bytes));
  }

  // For each pixel 0 unchanged, 1 added, 2 erased. Its ETag tells the server which correction this tab has.
  async correction(result) {
    return this.#request(`${result.url}correction`, {}, async (response) => {
      const pixels = new Uint8Array(await response.arrayBuffer());
      result.correctionETag = response.headers.get("ETag");
      return pixels;
    });
  }

  // Refused if another tab has stored a correction since.
  async correct(result, pixels) {
    const packed = new Blob([pixels]).stream().pipeThrough(new CompressionStream("deflate"));
    const headers = { "Content-Type": "application/octet-stream", "If-Match": result.correctionETag };
    const body = await new Response(packed).blob();
    const etag = (response) => response.headers.get("ETag");
    result.correctionETag = await this.#request(`${result.url}correction`, { method: "PUT", body, headers }, etag);
  }

  async table(result, choice) {
    return this.#request(`${result.url}download/measurements?${choice}`, {}, (response) => response.text());
  }

  async measurement(result, choice, signal) {
    return this.#request(`${result.url}measurement?${choice}`, { signal }, json);
  }

  async delete(address) {
    await this.#request(address, { method: "DELETE" });
  }

  // What `read` takes from the answer; the connection may break while it reads.
  async #request(address, options = {}, read = () => null) {
    const headers = { "X-CSRFToken": this.token, ...options.headers };
    let response;
    try {
      response = await fetch(address, { ...options, headers });
      if (response.ok) return await read(response);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refusal(0, this.messages.unreachable);
    }
    const unknown = { message: this.messages.serverError.replace("{status}", response.status) };
    const { message } = await response.json().catch(() => unknown);
    throw new Refusal(response.status, message, Number(response.headers.get("Retry-After")));
  }
}
